"""Messages, masks and envelopes: what is sent comes back, and nothing else is accepted."""

import contextlib
import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from openmg import codec, envelope, masking
from openmg.identity import DeviceKey
from openmg.messages import base, topics
from openmg.messages.telemetry import Ack, Health, RosterMember, SlotReport
from openmg.zk.babyjub import SUBGROUP_ORDER
from openmg.zk.field import R

KEYS = [DeviceKey(bytes([i]) * 32) for i in range(1, 8)]
ROSTER = masking.make_roster(
    1, 100, [RosterMember(f"m{i}", key.address, key.mask_public, i, bytes(32)) for i, key in enumerate(KEYS)]
)
POINT = bytes(32)
REPORT = SlotReport("m1", 1, 5, bytes(32), (1, 2, 3, 4), bytes(32), bytes(32), (POINT, POINT), bytes(256), Health(1, 2, 3, 4))
ENERGY, BLINDING = st.integers(0, 2**32 - 1), st.integers(0, SUBGROUP_ORDER - 1)


def test_signed_message_comes_back_with_its_signer():
    opened = base.open_signed(SlotReport, base.sign(REPORT, 9, KEYS[0].signing_key), 9)
    assert opened.message == REPORT and opened.signer == KEYS[0].address


def test_any_flipped_byte_changes_the_signer_or_is_refused():
    data = base.sign(REPORT, 9, KEYS[0].signing_key)
    for i in range(len(data)):
        forged = data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :]
        with contextlib.suppress(base.InvalidMessage):
            assert base.open_signed(SlotReport, forged, 9).signer != KEYS[0].address


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_raise_anything_else(data):
    for attempt in (lambda: base.decode(Ack, data), lambda: base.open_signed(SlotReport, data, 1)):
        with pytest.raises(base.InvalidMessage):
            attempt()


@pytest.mark.parametrize(
    "body",
    [{}, {"device": "m1"}, {"device": "m1", "high_water": True}, {"device": 1, "high_water": 1},
     {"device": "m1", "high_water": 1, "extra": 0}],
)  # fmt: skip
def test_wrong_fields_are_refused(body):
    with pytest.raises(base.InvalidMessage):
        base.decode(Ack, codec.encode(body))


@pytest.mark.parametrize(
    "change",
    [{"masked": (1, 2)}, {"masked": (2**64, 0, 0, 0)}, {"masked": (0, 0, 0, SUBGROUP_ORDER)}, {"masked": (0, 0, -1, 0)},
     {"commitments": (bytes(32),)}, {"commitments": (bytes(32), bytes(31))}, {"proof": bytes(255)}],
)  # fmt: skip
def test_a_report_of_another_shape_is_refused(change):
    with pytest.raises(ValueError, match="masked value|slot report has"):
        dataclasses.replace(REPORT, **change)


def test_the_device_key_gives_a_secret_for_circuits_of_its_own():
    secrets = {key.meter_secret for key in KEYS}
    assert len(secrets) == len(KEYS) and all(2**200 < secret < R for secret in secrets)


def test_envelope_opens_for_its_relay_only_and_has_one_size():
    relay, other = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    contents = [envelope.Content(bytes(16), 9, (envelope.Action(b"", b"x" * size),)) for size in (1, 3000)]
    sealed = [envelope.seal(relay.public_key().public_bytes_raw(), content) for content in contents]
    assert len(sealed[0].sealed) == len(sealed[1].sealed)
    assert [envelope.unseal(relay, item) for item in sealed] == contents
    with pytest.raises(base.InvalidMessage):
        envelope.unseal(other, sealed[0])
    with pytest.raises(ValueError, match="carries"):
        envelope.seal(
            relay.public_key().public_bytes_raw(), envelope.Content(bytes(16), 9, (envelope.Action(b"", b"x" * 5000),))
        )


def test_topics_of_meters_are_parsed_strictly():
    assert topics.parse_from_meter(topics.from_meter("agent-3", topics.SLOT)) == ("agent-3", "slot")
    for topic in ("grid/v1/Agent/slot", "grid/v1//slot", "grid/v1/a/b/c", "hub/v1/a/slot", "grid/v1/a"):
        assert topics.parse_from_meter(topic) is None
