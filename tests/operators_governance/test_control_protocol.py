"""Frames of the control socket: what was written is read, and nothing else."""

from __future__ import annotations

import random

import pytest

from hub.control.protocol import (
    HEAD_BYTES,
    MAX_ANSWER_BYTES,
    MAX_PATH_CHARS,
    MAX_REASON_CHARS,
    MAX_REQUEST_BYTES,
    TAG,
    Answer,
    ProtocolError,
    Query,
    Submit,
    body_length,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from hub.ppdl.consensus.block import MAX_TX_BYTES
from openmg import codec


@pytest.mark.parametrize(
    "request_", [Query("validators"), Query("p" * MAX_PATH_CHARS), Submit(b"\x00"), Submit(bytes(MAX_TX_BYTES))]
)
def test_a_request_comes_back(request_: Query | Submit) -> None:
    framed = encode_request(request_)
    assert body_length(framed[:HEAD_BYTES], MAX_REQUEST_BYTES) == len(framed) - HEAD_BYTES
    assert decode_request(framed[HEAD_BYTES:]) == request_


@pytest.mark.parametrize("request_", [Query("p" * (MAX_PATH_CHARS + 1)), Submit(b""), Submit(bytes(MAX_TX_BYTES + 1))])
def test_a_request_over_its_bound_is_not_sent(request_: Query | Submit) -> None:
    with pytest.raises(ProtocolError, match="it takes a query of up to"):
        encode_request(request_)


@pytest.mark.parametrize(
    ("length", "right"), [(0, False), (1, True), (MAX_REQUEST_BYTES, True), (MAX_REQUEST_BYTES + 1, False)]
)
def test_a_frame_has_a_length_within_the_bound(length: int, right: bool) -> None:
    head = length.to_bytes(HEAD_BYTES, "big")
    if right:
        assert body_length(head, MAX_REQUEST_BYTES) == length
    else:
        with pytest.raises(ProtocolError, match=f"a frame of {length} bytes"):
            body_length(head, MAX_REQUEST_BYTES)


@pytest.mark.parametrize(
    "value",
    [
        [TAG, "query", "p" * (MAX_PATH_CHARS + 1)],
        [TAG, "query", b"validators"],
        [TAG, "submit", "tx"],
        [TAG, "submit", b""],
        [TAG, "stop", "now"],
        [TAG, "query"],
        [TAG, "query", "validators", 1],
        ["openmg.hub.control.v2", "query", "validators"],
        [],
        {"query": "validators"},
        7,
    ],
)
def test_another_form_is_no_request(value: object) -> None:
    with pytest.raises(ProtocolError):
        decode_request(codec.encode(value))


def test_no_bytes_do_more_than_be_refused() -> None:
    chance = random.Random(4712)
    framed = encode_request(Submit(b"a transaction"))[HEAD_BYTES:]
    for _ in range(2000):
        data = bytearray(framed)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        for body in (bytes(data), chance.randbytes(chance.randrange(1, 40)), framed[: chance.randrange(len(framed))]):
            for decode in (decode_request, decode_answer):
                try:
                    decode(body)
                except ProtocolError as error:
                    assert str(error).startswith("control socket: ")


def test_an_answer_comes_back_and_a_huge_one_says_so() -> None:
    for answer in (Answer(True, b"value", 12), Answer(False, reason="no such path")):
        assert decode_answer(encode_answer(answer)[HEAD_BYTES:]) == answer
    huge = decode_answer(encode_answer(Answer(True, bytes(MAX_ANSWER_BYTES), 12))[HEAD_BYTES:])
    assert not huge.ok and f"{MAX_ANSWER_BYTES} bytes" in huge.reason
    long = decode_answer(encode_answer(Answer(False, reason="뜻" * 5000))[HEAD_BYTES:])
    assert long.reason == "?" * MAX_REASON_CHARS
