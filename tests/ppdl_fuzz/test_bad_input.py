"""Any bytes from the wire: a value or the decoder's own error, never another exception, never work without bound.

Tapes are drawn and shrunk by hypothesis; `openmg ppdl fuzz` runs the same targets for as long as it is told.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import cbor2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hub.ppdl.consensus.certs import (
    CertError,
    Domain,
    verify_new_view,
    verify_pre_prepare,
    verify_qc,
    verify_view_change,
    vote_signer,
)
from hub.ppdl.consensus.decoding import decode_message
from hub.ppdl.consensus.messages import (
    MAX_MESSAGE_BYTES,
    Commit,
    Decided,
    Kind,
    Message,
    MessageError,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    SyncRequest,
    SyncResponse,
    ViewChange,
    encode_message,
    kind_of,
)
from hub.ppdl.net.cards import CardError, decode_card
from hub.ppdl.sim.keys import CHAIN_ID, GENESIS_HASH, validator_addresses
from openmg import codec
from openmg.signing import SECP256K1_ORDER
from workbench.ppdl_fuzz import application, chain, wires
from workbench.ppdl_fuzz.core import VALIDATORS, VOICES, core, five_keys
from workbench.ppdl_fuzz.speech import Speech
from workbench.ppdl_fuzz.tape import Finding, Tape
from workbench.ppdl_fuzz.targets import TARGETS

# The same inputs in every run; `openmg ppdl fuzz` and `make fuzz` draw new ones.
QUICK = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
SHORT_TAPES = st.binary(max_size=300)
LONG_TAPES = st.binary(min_size=100, max_size=2500)
DEEP = ("core", "transactions", "transfer")


@pytest.fixture(autouse=True, scope="module")
def application_closed() -> Iterator[None]:
    yield
    application.close()


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in DEEP])
@QUICK
@given(tape=SHORT_TAPES)
def test_every_decoder_keeps_its_rules(name: str, tape: bytes) -> None:
    TARGETS[name](Tape(tape))


@pytest.mark.parametrize("name", list(wires.WIRES))
@QUICK
@given(data=st.binary(max_size=400))
@example(data=b"")
@example(data=b"\xff" * 64)
@example(data=b"\x81" * 64)
@example(data=b"\x9b" + b"\xff" * 8)
@example(data=b"\xa1" + b"\x40" + b"\x00")
def test_any_bytes_are_read_or_refused(name: str, data: bytes) -> None:
    wires.check(wires.WIRES[name], data)


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(tape=LONG_TAPES)
def test_the_core_keeps_its_rules_whatever_it_is_fed(tape: bytes) -> None:
    core(Tape(tape))


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(tape=LONG_TAPES)
def test_state_transfer_keeps_its_rules(tape: bytes) -> None:
    TARGETS["transfer"](Tape(tape))


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(tape=LONG_TAPES)
def test_the_application_refuses_bad_transactions_and_never_raises(tape: bytes) -> None:
    TARGETS["transactions"](Tape(tape))


@QUICK
@given(tape=SHORT_TAPES)
@example(tape=b"\x07\x00\x00\x00\x00\x00}\x01\x02")
def test_every_message_has_one_encoding(tape: bytes) -> None:
    """Of drawn messages of every kind, good and bad: what is encoded is read as the same message.

    Or refused: a drawn height may be 0, which no message has.
    """
    made = chain.chain()
    speech = Speech(five_keys(), validator_addresses(VOICES), made.tip)
    message = speech.message(Tape(tape))
    wire = encode_message(message)
    try:
        read = decode_message(wire)
    except MessageError as error:
        assert str(error) == "number is out of range"
    else:
        assert read == message and encode_message(read) == wire


def test_there_is_a_seed_of_every_kind_and_each_is_read() -> None:
    assert {kind_of(message) for message in chain.messages()} == set(Kind)
    assert tuple(map(decode_message, chain.wires())) == chain.messages()
    for name, wire in wires.WIRES.items():
        for seed in wire.seeds():
            assert wires.check(wire, seed) is not None, name


def _proofs(message: Message) -> None:
    """What a replica asks of a message before it counts. Raises CertError."""
    domain, members = Domain(CHAIN_ID, GENESIS_HASH), chain.chain().tip.validators
    match message:
        case PrePrepare():
            verify_pre_prepare(domain, members, message)
        case Prepare() | Commit():
            vote_signer(domain, members, message)
        case ViewChange():
            verify_view_change(domain, members, message)
        case NewView():
            verify_new_view(domain, members, message)
        case Decided() | SyncResponse():
            for decided in message.blocks if isinstance(message, SyncResponse) else (message,):
                verify_qc(domain, members, decided.block.header, decided.qc)
        case _:
            assert isinstance(message, Status | SyncRequest), "every kind but the hints proves something"


@pytest.mark.parametrize("number", range(len(chain.messages())))
def test_a_message_with_one_byte_changed_is_nobodys(number: int) -> None:
    """Each byte once, with one bit changed; each length, shorter and longer."""
    honest, wire = chain.messages()[number], chain.wires()[number]
    _proofs(honest)
    step = max(1, len(wire) // 300)  # of long messages every few bytes, with another start for each kind
    changed = [wire[:at] + bytes([wire[at] ^ 1 << at % 8]) + wire[at + 1 :] for at in range(number % step, len(wire), step)]
    changed += [wire[:length] for length in range(0, len(wire), step)] + [wire + b"\0", wire + wire]
    for data in changed:
        try:
            read = decode_message(data)
        except MessageError:
            continue
        assert read != honest
        wires.not_the_senders(honest, read)


def test_an_answer_that_lost_its_blocks_proves_nothing() -> None:
    honest = next(message for message in chain.messages() if isinstance(message, SyncResponse) and message.blocks)
    wires.not_the_senders(honest, SyncResponse(()))


@pytest.mark.parametrize("kind", [Kind.PREPARE, Kind.COMMIT])
def test_the_other_form_of_a_signature_is_refused(kind: Kind) -> None:
    """(r, n - s) verifies in textbooks: it would give one vote two encodings."""
    honest = next(message for message in chain.messages() if kind_of(message) is kind)
    assert isinstance(honest, Prepare | Commit)
    s = SECP256K1_ORDER - int.from_bytes(honest.signature[32:64], "big")
    twin = honest.signature[:32] + s.to_bytes(32, "big") + bytes([55 - honest.signature[64]])
    changed = type(honest)(honest.height, honest.view, honest.digest, twin)
    with pytest.raises(CertError, match="invalid"):
        _proofs(changed)


LARGEST = [
    pytest.param(b"\x00" * MAX_MESSAGE_BYTES, id="numbers, four million"),
    pytest.param(b"\x9a\x00\x3f\xff\x00" + b"\x00" * (MAX_MESSAGE_BYTES - 5), id="a list of four million"),
    pytest.param(b"\x81" * MAX_MESSAGE_BYTES, id="a list in a list in a list"),
    pytest.param(b"\xa1\x5a\x00\x3f\xff\x00" + bytes(MAX_MESSAGE_BYTES - 6), id="a key of four megabytes"),
    pytest.param(b"\x9b" + b"\xff" * 8 + bytes(100), id="a list longer than the frame"),
    pytest.param(b"\x5b" + b"\xff" * 8 + bytes(100), id="bytes longer than the frame"),
    pytest.param(b"\xd8\x1c\x82\xd8\x1d\x00" * 50_000, id="shared references"),
    pytest.param(b"\x00" * (MAX_MESSAGE_BYTES + 1), id="one byte too long"),
]


@pytest.mark.parametrize("data", LARGEST)
def test_the_largest_garbage_costs_no_more_memory_than_itself(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(MessageError) as refused:
            decode_message(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 1 << 20, f"{peak} bytes for {len(data)}"
    assert len(str(refused.value)) <= wires.MAX_REASON


def test_a_reason_does_not_repeat_a_long_key() -> None:
    """Reasons are logged: a frame of 4 MiB with one key must not become a line of 16."""
    data = cbor2.dumps({b"\xff" * 100_000: 0}, canonical=True)
    with pytest.raises(codec.DecodeError, match="a dict key is bytes, not text") as refused:
        codec.decode(data)
    assert len(str(refused.value)) <= wires.MAX_REASON
    with pytest.raises(TypeError, match="a dict key is int, not text"):
        codec.encode({1: 2})


@pytest.mark.parametrize("changes", [{"host": "h" * 1500 + " "}, {"name": "\U0010ffff" * 500}])
def test_a_reason_does_not_repeat_a_long_name_of_a_card(changes: dict[str, str]) -> None:
    fields = codec.decode(chain.card().encode())
    at = {"name": 4, "host": 5}
    for name, value in changes.items():
        assert fields[at[name]] == getattr(chain.card(), name)
        fields[at[name]] = value
    with pytest.raises(CardError) as refused:
        decode_card(codec.encode(fields))
    assert len(str(refused.value)) <= wires.MAX_REASON


def test_members_are_four_and_the_fifth_voice_is_a_stranger() -> None:
    """The generators reach a stranger's key: what it signs is among what is drawn."""
    assert validator_addresses(VOICES)[:VALIDATORS] != validator_addresses(VOICES)
    assert set(five_keys().signers) == set(validator_addresses(VOICES))


def _refuse_at_length(data: bytes) -> bytes:
    raise ValueError(f"{data!r} is not wanted")


def test_a_check_that_fails_is_a_finding() -> None:
    """The positive control of the decoders' rule."""
    forgiving = wires.Wire(lambda: [b"\0"], lambda data: data[:1], lambda value: value, ValueError)
    assert wires.check(forgiving, b"a") == b"a"
    with pytest.raises(Finding, match="not its encoding"):
        wires.check(forgiving, b"ab")
    talkative = wires.Wire(lambda: [b"\0"], _refuse_at_length, bytes, ValueError)
    with pytest.raises(Finding, match="a reason of"):
        wires.check(talkative, b"x" * 1000)
