"""The canonical encoding: `decode` takes what `encode` writes and nothing else, held to another library's reading of CBOR."""

import tracemalloc

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openmg import codec

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.binary(max_size=20) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(plain)
def test_decode_gives_back_what_encode_took(value):
    assert codec.decode(codec.encode(value)) == value


@given(st.binary(max_size=64))
def test_any_bytes_decode_canonically_or_are_refused(data):
    try:
        value = codec.decode(data)
    except codec.DecodeError:
        return
    assert codec.encode(value) == data


@pytest.mark.parametrize(
    "data",
    [b"", b"\x18\x01", b"\xf9\x3c\x00", b"\x9f\x01\xff", b"\x81" * 500 + b"\0", b"\0\0", b"\xc1\x00",
     cbor2.dumps({"b": 1, "a": 2}), cbor2.dumps({1: 2}), b"\xa2\x61a\x01\x61a\x02"],
)  # fmt: skip
def test_other_encodings_are_refused(data):
    with pytest.raises(codec.DecodeError):
        codec.decode(data)


@pytest.mark.parametrize("depth", [2, 40])
def test_shared_references_are_refused_before_they_are_followed(depth):
    """Lists that each hold the one before ten times: 10^depth items in ten bytes a level, from anybody, unsigned."""
    first = b"\xd8\x1c\x8a" + b"\0" * 10
    levels = [b"\xd8\x1c\x8a" + b"".join(b"\xd8\x1d" + cbor2.dumps(i - 1) for _ in range(10)) for i in range(1, depth)]
    with pytest.raises(codec.DecodeError, match="a tag"):
        codec.decode(cbor2.dumps([0] * depth)[:-depth] + first + b"".join(levels))


def test_items_are_counted_before_they_are_built():
    value = [[0] * 9, {"a": 1}]  # two containers and their list, nine numbers, a key and its value
    data = codec.encode(value)
    assert codec.decode(data, max_items=14) == value
    with pytest.raises(codec.DecodeError, match="more than 13 items"):
        codec.decode(data, max_items=13)
    with pytest.raises(codec.DecodeError, match="items"):
        codec.decode(codec.encode([0] * codec.DEFAULT_MAX_ITEMS))


def test_floats_and_oversize_are_refused():
    with pytest.raises(TypeError):
        codec.encode({"price": 1.5})
    with pytest.raises(codec.DecodeError, match="exceed"):
        codec.decode(b"\0" * 11, max_bytes=10)


def reference(data):
    """The value in a list, if another decoder finds one whose encoding these bytes are; an empty list otherwise."""
    try:
        value = cbor2.loads(data)
        return [value] if codec.encode(value) == data else []
    except (cbor2.CBORDecodeError, TypeError, ValueError, RecursionError, MemoryError, OverflowError):
        return []


def decoded(data, **bounds):
    try:
        return [codec.decode(data, **bounds)]
    except codec.DecodeError:
        return []


def kinds(value):
    """The value with its types, so that neither 1 and True nor two orders of a dict are equal."""
    if isinstance(value, list):
        return [list, *map(kinds, value)]
    if isinstance(value, dict):
        return [dict, *((key, kinds(item)) for key, item in value.items())]
    return [type(value), value]


def head(major, argument, longer=0):
    """A head, `longer` steps longer than it need be."""
    size = next(i for i, limit in enumerate((24, 2**8, 2**16, 2**32, 2**64)) if argument < limit)
    size = min(4, size + longer)
    if size == 0:
        return bytes([major << 5 | argument])
    return bytes([major << 5 | 23 + size]) + argument.to_bytes(1 << size - 1, "big")


edges = st.sampled_from([0, 23, 24, 2**8 - 1, 2**8, 2**16 - 1, 2**16, 2**32 - 1, 2**32, 2**64 - 1])
longer = st.sampled_from([0] * 15 + [1])


@st.composite
def almost_canonical(draw, depth=0):
    """Bytes that are an item's encoding, or would be one but for a rule here and there."""
    major = draw(st.integers(0, 7 if depth < 3 else 3))
    if major < 2:
        return head(major, draw(edges | st.integers(0, 2**64 - 1)), draw(longer))
    if major == 2:
        content = draw(st.binary(max_size=40))
        return head(2, len(content), draw(longer)) + content
    if major == 3:
        content = draw(st.text(max_size=30).map(str.encode) | st.sampled_from([b"\xff", b"\xed\xa0\x80", b"\xc0\x80"]))
        return head(3, len(content), draw(longer)) + content
    if major == 4:
        items = draw(st.lists(almost_canonical(depth + 1), max_size=4))
        return head(4, len(items), draw(longer)) + b"".join(items)
    if major == 5:
        keys = [head(3, len(key)) + key for key in draw(st.lists(st.text(max_size=2).map(str.encode), max_size=4))]
        if draw(st.booleans()):
            keys = sorted(set(keys))
        return head(5, len(keys), draw(longer)) + b"".join(key + draw(almost_canonical(depth + 1)) for key in keys)
    if major == 6:
        content = draw(st.binary(min_size=8, max_size=33))
        return bytes([draw(st.sampled_from([0xC2, 0xC3, 0xC3, 0xC4]))]) + head(2, len(content), draw(longer)) + content
    return draw(
        st.sampled_from([b"\xf4", b"\xf5", b"\xf6", b"\xf7", b"\xf8\x14", b"\xf9\x3c\x00", b"\x9f\xff", b"\x5f\x40\xff"])
    )


@st.composite
def mutated(draw):
    """An encoding with some of its bytes changed, taken out or put in, or cut off."""
    data = bytearray(draw(almost_canonical() | plain.map(codec.encode)))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(data)))
        data[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(data[: draw(st.just(len(data)) | st.integers(0, len(data)))])


@given(almost_canonical() | mutated() | st.binary(max_size=64) | plain.map(codec.encode) | plain.map(cbor2.dumps))
@example(b"\xc2\x59" + bytes(range(1, 26)))  # the length's own length, read as a length
@example(b"\x1b" + bytes(range(1, 6)))  # cut off, and still not too small
@example(b"\x81" * codec.MAX_DEPTH + b"\x80")
@example(b"\x81" * codec.MAX_DEPTH + b"\x00")
@example(b"\xc2\x58\x20" + b"\xff" * 32)
@example(b"\xc3\x58\x20" + b"\xff" * 32)
@example(b"\xc2\x58\x21\x01" + bytes(32))
@example(b"\xc2\x48" + b"\xff" * 8)
@example(b"\xc2\x58\x10" + b"\xff" * 16)
def test_decode_takes_exactly_what_encode_writes(data):
    expected = kinds(reference(data))
    assert kinds(decoded(data)) == expected
    assert kinds(decoded(memoryview(data))) == expected


@given(plain)
def test_a_bound_on_items_is_met_by_as_many_and_by_no_more(value):
    def count(one):
        if isinstance(one, dict):
            return 1 + len(one) + sum(map(count, one.values()))
        wide = isinstance(one, int) and not -(2**64) <= one < 2**64
        return 1 + wide + (sum(map(count, one)) if isinstance(one, list) else 0)

    data = codec.encode(value)
    assert decoded(data, max_items=count(value)) == [value]
    assert decoded(data, max_items=count(value) - 1) == []


def test_long_byte_strings_come_as_views_of_what_was_given():
    data = codec.encode([b"a" * 99, b"b" * 100, {"c": b"c" * 101}])
    short, exact, inside = codec.decode(data, views_from=100)
    assert short == b"a" * 99 and type(short) is bytes
    for view, letter in (exact, b"b"), (inside["c"], b"c"):
        assert type(view) is memoryview and view.obj is data and view == letter * len(view)


def test_decoding_holds_the_value_and_little_else():
    """A block of 2 MiB comes from anybody: what decoding it takes for a while is a replica's memory under a flood."""
    txs = [bytes([i % 256]) * 1024 for i in range(2048)]
    data = codec.encode([bytes(320), txs])
    tracemalloc.start()
    try:
        value = codec.decode(data, max_bytes=len(data))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert value == [bytes(320), txs]
    assert held < 1.1 * len(data) and peak - held < 64 * 1024
