"""The transactions of the PPDL chain and their bytes.

A transaction is canonical CBOR `[kind, payload]`. Commits, ballots, evaluations and the steps of private rounds are the
device's own signed messages, as they came over MQTT; availability, aggregates and verdicts are a validator's (`duties`); a
slot sum holds the rosters of a microgrid's groups and the signed report of everybody in it, so that each replica checks that
their commitments open to it, and is signed by the rosters' operator, so that nobody else brings a part of it; an inference
request is signed by a validator, because replicas cannot see the plasma chain on which it was made. Evidence of equivocation
proves itself and may come from anybody; changes of the validator set are in `set_change`.
Rules: decoding checks form, `open_*` check signatures; neither looks at the chain's state. There is one encoding of
each transaction.
Not here: what a transaction does (`execute` and what it calls).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from hub.ppdl.app.duties import AggregateProposal, Availability, Verdict
from hub.ppdl.consensus.certs import CertError, Domain
from hub.ppdl.consensus.evidence import Evidence, EvidenceError, verify_evidence
from openmg import codec
from openmg.masking import MAX_GROUP, MIN_GROUP, SlotSums
from openmg.messages import topics
from openmg.messages.base import MAX_MESSAGE_BYTES, InvalidMessage, M, Signed, open_signed, sign
from openmg.messages.telemetry import Roster, SlotReport
from openmg.units import ADDRESS_BYTES

KIND_SLOT_SUM = "slot"
KIND_COMMIT = "commit"
KIND_AVAILABILITY = "available"
KIND_AGGREGATE = "aggregate"
KIND_VERDICT = "verdict"
KIND_BALLOT = "ballot"
KIND_EVALUATION = "evaluation"
KIND_DEALING, KIND_MASK, KIND_SURVIVORS, KIND_UNMASKING = topics.DEALING, topics.MASK, topics.SURVIVORS, topics.UNMASKING
"""A step of a private round has the name of its topic's leaf."""
KIND_INFERENCE = "inference"
KIND_EVIDENCE = "evidence"
KIND_PROPOSE = "propose"
KIND_VOTE = "vote"
KINDS = (
    KIND_AGGREGATE,
    KIND_AVAILABILITY,
    KIND_BALLOT,
    KIND_COMMIT,
    KIND_DEALING,
    KIND_EVALUATION,
    KIND_EVIDENCE,
    KIND_INFERENCE,
    KIND_MASK,
    KIND_PROPOSE,
    KIND_SLOT_SUM,
    KIND_SURVIVORS,
    KIND_UNMASKING,
    KIND_VERDICT,
    KIND_VOTE,
)
PRIVATE_KINDS = (KIND_DEALING, KIND_MASK, KIND_SURVIVORS, KIND_UNMASKING)
MAX_TX_BYTES = MAX_MESSAGE_BYTES
"""The engine's own limit too; a slot of 192 meters needs up to 230 KiB, its proofs a fifth of that."""
MAX_SLOT_METERS = MAX_GROUP
"""In all groups of a microgrid together."""
MAX_TOLD = 32
"""Characters of an unknown kind that its refusal repeats."""


class InvalidTransaction(ValueError):
    """The bytes are not a transaction; the message is one sentence for the sender."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """Kind and payload; the payload's form is checked when it is opened."""

    kind: str
    payload: bytes

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidTransaction(f"transaction kind {self.kind[:MAX_TOLD]!r} is unknown; use one of {', '.join(KINDS)}")

    def encode(self) -> bytes:
        return codec.encode([self.kind, self.payload])


@dataclass(frozen=True)
class OpenedGroup:
    """A group's opened sums for one slot, with the reports of those who are in them: the whole roster or its survivors.

    `sums`: import and export in Wh, blindings of export and import. `signers` signed the survivor set, `signatures` in the same
    order; both are empty when nobody is left out.
    """

    roster: Roster
    reports: tuple[bytes, ...]  # signed SlotReport messages, in the roster's order
    sums: tuple[int, ...]
    signers: tuple[bytes, ...] = ()
    signatures: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if not MIN_GROUP <= len(self.reports) <= MAX_GROUP:
            raise ValueError(f"a group of a slot sum has the reports of {MIN_GROUP} to {MAX_GROUP} members")
        if (
            len(self.sums) != len(SlotSums._fields)
            or len(self.signers) != len(self.signatures)
            or len(self.signers) > MAX_GROUP
        ):
            raise ValueError(f"a group of a slot sum has {len(SlotSums._fields)} sums, and a signature for each signer")

    @classmethod
    def of(
        cls, roster: Roster, reports: tuple[bytes, ...], sums: SlotSums, signatures: Mapping[bytes, bytes] | None = None
    ) -> OpenedGroup:
        """`signatures`: those under the survivor set by address, when it leaves anybody out."""
        signed = signatures or {}
        return cls(roster, reports, tuple(sums), tuple(signed), tuple(signed.values()))


@dataclass(frozen=True)
class SlotSum:
    """A microgrid's slot: the sums of its open groups, and the meters (addresses, ascending) of groups that stay closed.

    Signed by the operator whom the rosters name.
    """

    PURPOSE: ClassVar[str] = "ppdl-slot-sum"
    slot: int
    groups: tuple[OpenedGroup, ...]
    closed: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if self.slot < 0 or not 1 <= sum(len(group.reports) for group in self.groups) <= MAX_SLOT_METERS:
            raise ValueError(f"a slot sum has a slot and the reports of at most {MAX_SLOT_METERS} meters")
        if len({group.roster.microgrid for group in self.groups}) != 1:
            raise ValueError("the groups of a slot sum are of one microgrid")
        known = all(len(address) == ADDRESS_BYTES for address in self.closed)
        if not known or list(self.closed) != sorted(set(self.closed)) or len(self.closed) > MAX_SLOT_METERS:
            raise ValueError(f"a slot sum names at most {MAX_SLOT_METERS} meters of closed groups, ascending, each once")

    @property
    def microgrid(self) -> int:
        return self.groups[0].roster.microgrid


@dataclass(frozen=True)
class InferenceRequest:
    """A paid request on a plasma chain's inference contract, witnessed by a validator."""

    PURPOSE: ClassVar[str] = "ppdl-inference"
    plasma_chain_id: int
    contract: bytes
    request_id: int
    microgrid: int

    def __post_init__(self) -> None:
        if len(self.contract) != ADDRESS_BYTES or not 0 <= self.microgrid < 2**32:
            raise ValueError("an inference request names a 20-byte contract and a microgrid")
        if not 0 < self.plasma_chain_id < 2**64 or not 0 <= self.request_id < 2**256:
            raise ValueError("an inference request has a chain id in 1..2^64-1 and a request id in 0..2^256-1")


def slot_sum_tx(slot: int, groups: Sequence[OpenedGroup], closed: Iterable[bytes], chain_id: int, operator_key: bytes) -> bytes:
    """The transaction of a slot's opened groups; `closed`: the meters of the groups that are left out of it."""
    message = SlotSum(slot, tuple(groups), tuple(sorted(closed)))
    return Transaction(KIND_SLOT_SUM, sign(message, chain_id, operator_key)).encode()


def commit_tx(signed_commit: bytes) -> bytes:
    """The transaction of a device's signed UpdateCommit bytes."""
    return Transaction(KIND_COMMIT, signed_commit).encode()


def ballot_tx(signed_ballot: bytes) -> bytes:
    """The transaction of a device's signed Ballot bytes."""
    return Transaction(KIND_BALLOT, signed_ballot).encode()


def step_tx(kind: str, signed_step: bytes) -> bytes:
    """The transaction of a device's signed step in a private round, one of PRIVATE_KINDS."""
    return Transaction(kind, signed_step).encode()


def evaluation_tx(signed_evaluation: bytes) -> bytes:
    """The transaction of a device's signed Evaluation bytes."""
    return Transaction(KIND_EVALUATION, signed_evaluation).encode()


def duty_tx(duty: Availability | AggregateProposal | Verdict, chain_id: int, validator_key: bytes) -> bytes:
    """The transaction of a validator's word on a learning round, signed with its private key."""
    kinds = {Availability: KIND_AVAILABILITY, AggregateProposal: KIND_AGGREGATE, Verdict: KIND_VERDICT}
    return Transaction(kinds[type(duty)], sign(duty, chain_id, validator_key)).encode()


def inference_tx(request: InferenceRequest, chain_id: int, validator_key: bytes) -> bytes:
    """The transaction of a request, signed with a validator's private key for the PPDL chain."""
    return Transaction(KIND_INFERENCE, sign(request, chain_id, validator_key)).encode()


def evidence_tx(evidence: bytes) -> bytes:
    """The transaction of encoded `hub.ppdl.consensus.evidence.Evidence`."""
    return Transaction(KIND_EVIDENCE, evidence).encode()


def decode_tx(data: bytes) -> Transaction:
    """Kind and payload of canonical bytes. Raises InvalidTransaction."""
    try:
        value = codec.decode(data, max_bytes=MAX_TX_BYTES)
    except codec.DecodeError as error:
        raise InvalidTransaction(f"transaction is not canonical CBOR ({error}); encode it with this module") from error
    if not isinstance(value, list) or [type(item) for item in value] != [str, bytes]:
        raise InvalidTransaction("transaction is not a kind with a payload; encode it with this module")
    return Transaction(value[0], value[1])


GroupReports = tuple[Signed[SlotReport], ...]
"""The opened reports of one group."""


def open_slot_sum(payload: bytes, chain_id: int) -> tuple[Signed[SlotSum], tuple[GroupReports, ...]]:
    """The slot sum and its signer, and each group's reports with the address that signed each. Raises InvalidTransaction."""
    try:
        signed = open_signed(SlotSum, payload, chain_id)
        return signed, tuple(
            tuple(open_signed(SlotReport, report, chain_id) for report in group.reports) for group in signed.message.groups
        )
    except InvalidMessage as error:
        raise InvalidTransaction(f"slot sum: {error}") from error


def open_message(cls: type[M], payload: bytes, chain_id: int, what: str) -> Signed[M]:
    """A signed message of one class and its signer; `what` names it in the reason. Raises InvalidTransaction."""
    try:
        return open_signed(cls, payload, chain_id)
    except InvalidMessage as error:
        raise InvalidTransaction(f"{what}: {error}") from error


def open_inference(payload: bytes, chain_id: int) -> Signed[InferenceRequest]:
    """The request and its signer. Raises InvalidTransaction."""
    return open_message(InferenceRequest, payload, chain_id, "inference request")


def open_evidence(payload: bytes, chain_id: int, chain: bytes) -> tuple[Evidence, bytes]:
    """The evidence and the address that signed both its statements; `chain` is the hash of the chain's genesis.

    Raises InvalidTransaction.
    """
    try:
        evidence = Evidence.decode(payload)
        return evidence, verify_evidence(Domain(chain_id, chain), evidence)
    except (EvidenceError, CertError) as error:
        raise InvalidTransaction(str(error)) from error
