"""The wire format of ABCI: exact, bounded, and never an exception but its own. CometBFT itself judges the rest."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub.ppdl.application import TxResult
from hub.ppdl.consensus.certs import CertError
from hub.ppdl.engines.cometbft import messages, wire
from hub.ppdl.engines.cometbft.commit import BlockId, CometHeader, Time
from hub.ppdl.engines.cometbft.rpc import parse_time
from hub.ppdl.engines.cometbft.server import MAX_MESSAGE_BYTES, AbciServer, delimited
from hub.ppdl.engines.cometbft.wire import WireError

I64 = st.integers(-(2**63), 2**63 - 1)


@given(number=st.integers(1, 2**29 - 1), value=I64, data=st.binary(max_size=300))
@example(number=1, value=-1, data=b"")
def test_fields_come_back_as_they_were(number: int, value: int, data: bytes) -> None:
    encoded = wire.int_field(number, value) + wire.message_field(number + 1, data) + wire.sfixed64_field(number + 2, value)
    fields = wire.parse(encoded)
    assert wire.get_int(fields, number) == value
    assert wire.get_all_bytes(fields, number + 1) == (data,)
    fixed = wire.get_bytes(fields, number + 2)
    assert int.from_bytes(fixed, "little", signed=True) == value
    assert (fixed == b"") == (value == 0)


def test_numbers_as_the_specification_shows_them() -> None:
    """Examples of the encoding guide of Protocol Buffers."""
    assert wire.int_field(1, 150) == bytes.fromhex("089601")
    assert wire.text_field(2, "testing") == bytes.fromhex("120774657374696e67")
    assert wire.varint(-2) == bytes.fromhex("feffffffffffffffff01")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_wire_error(data: bytes) -> None:
    with contextlib.suppress(WireError):
        request = messages.decode_request(data)
        with contextlib.suppress(WireError):
            messages.block_call(request)
        with contextlib.suppress(WireError):
            messages.init_chain_call(request)


@pytest.mark.parametrize(
    "bad",
    [
        b"\x80",  # ends inside a number
        b"\x0a\x05abc",  # ends inside a field
        b"\xff" * 10 + b"\x01",  # 70 bits
        b"\xff" * 9 + b"\x02",  # bit 64
        b"\x00\x00",  # field 0
        b"\x0b",  # a group
        wire.int_field(1, 1) * (wire.MAX_FIELDS + 1),
    ],
)
def test_malformed_messages(bad: bytes) -> None:
    with pytest.raises(WireError):
        wire.parse(bad)


def test_a_request_has_one_call_that_is_known() -> None:
    assert messages.decode_request(wire.message_field(3, b"")).call is messages.Call.INFO
    for bad in (b"", wire.message_field(3, b"") + wire.message_field(2, b""), wire.message_field(4, b""), wire.int_field(3, 1)):
        with pytest.raises(WireError):
            messages.decode_request(bad)


def test_a_failed_transaction_and_a_removed_validator_have_their_fields() -> None:
    body = messages.finalize_answer(b"h" * 32, [TxResult(True), TxResult(False, "no", b"d")], [(b"k" * 33, 0)], [b"e"])
    fields = wire.parse(body)
    good, bad = (wire.parse(one) for one in wire.get_all_bytes(fields, 2))
    assert (wire.get_int(good, 1), wire.get_int(bad, 1)) == (0, 1)
    assert (wire.get_text(bad, 3), wire.get_bytes(bad, 2)) == ("no", b"d")
    (update,) = wire.get_all_bytes(fields, 3)
    assert wire.get_bytes(wire.parse(wire.get_bytes(wire.parse(update), 1)), messages.SECP256K1ETH) == b"k" * 33
    assert wire.get_int(wire.parse(update), 2) == 0
    assert wire.get_bytes(fields, 5) == b"h" * 32


def test_times_of_the_node() -> None:
    assert parse_time("2024-02-29T23:59:59.123456789Z") == Time(1709251199, 123456789)
    assert parse_time("2024-02-29T23:59:59.1Z") == Time(1709251199, 100_000_000)
    assert parse_time("2024-02-29T23:59:59Z") == Time(1709251199, 0)
    with pytest.raises(ValueError):
        parse_time("yesterday")


def header() -> CometHeader:
    hashes = tuple(bytes([i]) * 32 for i in range(8))
    last = BlockId(b"l" * 32, 1, b"p" * 32)
    return CometHeader(11, 0, "ppdl-1", 5, Time(7, 9), last, hashes, b"a" * 20, 1, b"q" * 32)


def test_a_header_is_decoded_only_from_its_own_bytes() -> None:
    encoded = header().encoded
    assert CometHeader.decode(encoded) == header()
    for i in range(len(encoded)):
        with contextlib.suppress(CertError):
            assert CometHeader.decode(encoded[:i] + bytes([encoded[i] ^ 1]) + encoded[i + 1 :]) != header()
    for bad in (b"", encoded[:-1], encoded + b"\0"):
        with pytest.raises(CertError):
            CometHeader.decode(bad)


async def test_the_socket_ends_a_connection_that_talks_nonsense(tmp_path: Path) -> None:
    failures: list[str] = []
    with ThreadPoolExecutor(1) as thread:
        server = AbciServer(tmp_path / "s", lambda request: b"", thread, failures.append)
        await server.start()
        try:
            for bad in (
                b"\xff" * 11,
                wire.varint(MAX_MESSAGE_BYTES + 1),
                delimited(b"\x0b"),
                delimited(wire.message_field(99, b"")),
            ):
                reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
                writer.write(delimited(wire.message_field(1, wire.text_field(1, "hello"))) + bad)
                echo = delimited(wire.message_field(2, wire.text_field(1, "hello")))
                assert await reader.readexactly(len(echo)) == echo
                answer = await reader.read()  # to the end of the connection
                assert wire.get_bytes(wire.parse(answer[1:]), messages.EXCEPTION)
                writer.close()
            assert len(failures) == 4
        finally:
            await server.stop()
