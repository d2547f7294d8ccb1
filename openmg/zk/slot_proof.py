"""The `commit` proof of a slot report: what it states, and its verification, once for each report.

A report's proof says that its two commitments open to energies that exist, for this chain, meter and slot: ext =
keccak256(tag, PPDL chain id, mid, slot) modulo r. mid is the one registered for the report's signer, never one the report
could name.
Rules: pure; the pairing check comes in as a function, since the fast one is a native module. Whatever verifies it, the answer
is the same: points are decoded here, and only points of the prime-order subgroup are.
Not here: the statement (`circuits.commit`), the openings (`slot_openings`), whether a group's sums match (`openmg.masking`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from openmg.hashing import keccak256, words
from openmg.messages.telemetry import SlotReport
from openmg.zk.babyjub import CurvePointError, Point, decompress
from openmg.zk.circuits.commit import PUBLIC_INPUTS, CommitPublics, CommitWitness
from openmg.zk.field import R
from openmg.zk.meters import Opening
from openmg.zk.proof import VerifyingKey

EXT_TAG = keccak256(b"openmg.ext.commit.v1")
MAX_KNOWN = 8192
"""Reports whose outcome is remembered: sixteen slots of two full groups; about 700 bytes each. Then all are forgotten."""

Verify = Callable[[VerifyingKey, Sequence[int], bytes], bool]
"""Whether the proof shows the statement of the key for these public inputs; False for malformed ones."""


class SlotProofError(ValueError):
    """The report's commitments are no points or its proof does not hold; the message is one sentence."""


def commit_ext(chain_id: int, meter_id: int, slot: int) -> int:
    """ext of a slot's proof, a field element."""
    return int.from_bytes(keccak256(words(EXT_TAG, chain_id, meter_id, slot)), "big") % R


def commit_witness(exported: Opening, imported: Opening, chain_id: int, meter_id: int, slot: int) -> CommitWitness:
    """What the meter proves its slot from."""
    return CommitWitness(exported, imported, commit_ext(chain_id, meter_id, slot))


class SlotProofs:
    """Verified reports of one chain; remembers outcomes, so that a block's checks cost one verification each.

    May be called from several threads: at worst two of them verify the same report.
    """

    def __init__(self, key: VerifyingKey, verify: Verify, chain_id: int) -> None:
        if key.n_public != PUBLIC_INPUTS:
            raise ValueError(f"the verifying key has {key.n_public} public inputs, that of commit {PUBLIC_INPUTS}")
        self._key, self._verify, self._chain_id = key, verify, chain_id
        self._known: dict[bytes, tuple[Point, Point] | str] = {}

    def commitments(self, report: SlotReport, meter_id: int) -> tuple[Point, Point]:
        """The points Cx and Cm of a report of the meter with this mid, proved. Raises SlotProofError."""
        ext = commit_ext(self._chain_id, meter_id, report.slot)
        name = keccak256(b"".join(report.commitments) + report.proof + words(ext))  # every part has a fixed length
        outcome = self._known.get(name)
        if outcome is None:
            outcome = self._examine(report, ext)
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[name] = outcome
        if isinstance(outcome, str):
            raise SlotProofError(outcome)
        return outcome

    def _examine(self, report: SlotReport, ext: int) -> tuple[Point, Point] | str:
        """The points, or what is wrong."""
        try:
            exported, imported = map(decompress, report.commitments)
        except CurvePointError as error:
            return f"a commitment of slot {report.slot} is not usable: {error}"
        if not self._verify(self._key, CommitPublics(exported, imported, ext).as_list(), report.proof):
            return f"the proof of slot {report.slot} does not hold for its commitments, meter, slot and chain"
        return exported, imported
