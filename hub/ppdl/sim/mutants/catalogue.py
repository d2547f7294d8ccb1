"""The mutants: name, where the bug is from, how it is planted, and the check that kills it.

"row n" is a row of the project's table of protocol bugs that others shipped (`docs/PPDL.md`).
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.ppdl.consensus import certs, quorum, viewchange
from hub.ppdl.consensus.certs import Domain
from hub.ppdl.consensus.votes import ViewChangeBox, VoteBox
from hub.ppdl.sim.mutants import faults, killers, scenarios
from hub.ppdl.sim.mutants.killers import Killer
from hub.ppdl.sim.mutants.plant import Plant, replaced, subclass


@dataclass(frozen=True)
class Mutant:
    """One planted bug."""

    name: str
    source: str
    plant: Plant
    killer: Killer


def _both_sides(select: object) -> Plant:
    """Proposer and verifier choose alike, as they would if the rule itself were wrong."""
    return replaced((viewchange, "select_certificate", select), (certs, "select_certificate", select))


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "quorum of 2f",
        "Castro and Liskov 1999, 4.2: two quorums share an honest replica",
        replaced((quorum, "quorum", faults.quorum_of_2f)),
        killers.model_equivocating_proposer,
    ),
    Mutant(
        "quorum of 2f + 1 among five",
        "row 2: IBFT, n that is not 3f + 1 (arXiv 1901.07160)",
        replaced((quorum, "quorum", faults.quorum_of_2f_plus_1)),
        killers.model_equivocating_proposer_of_five,
    ),
    Mutant(
        "VIEW-CHANGE without prepared certificate",
        "row 7: sawtooth-pbft, a view change of block id and number only",
        subclass(faults.ForgetsItsCertificate),
        killers.model_view_change,
    ),
    Mutant(
        "NEW-VIEW takes the lowest certificate",
        "row 1: the highest view wins; random runs do not find this one",
        _both_sides(faults.lowest_certificate),
        scenarios.highest_certificate_wins,
    ),
    Mutant(
        "NEW-VIEW proposes fresh though a certificate exists",
        "row 1: QBFT, isProposalJustification",
        _both_sides(faults.no_certificate),
        killers.model_view_change,
    ),
    Mutant(
        "NEW-VIEW may propose anything",
        "row 7: sawtooth-pbft, verify_new_view checks number, signer and count only",
        replaced(
            (viewchange, "verify_new_view", faults.any_proposal_in_new_view),
            (certs, "verify_new_view", faults.any_proposal_in_new_view),
        ),
        killers.model_byzantine_new_view,
    ),
    Mutant(
        "a local lock that never unlocks",
        "row 1: IBFT (EIP-650), quorum 305, celo 366",
        subclass(faults.NeverUnlocks),
        scenarios.split_certificates_still_decide,
    ),
    Mutant(
        "votes of different views in one certificate",
        "Castro and Liskov 1999, 4.2: committed-local is of one view",
        replaced(
            (VoteBox, "count", faults.counted_over_views),
            (VoteBox, "redeem", faults.redeemed_over_views),
            (VoteBox, "signatures", faults.signatures_over_views),
        ),
        scenarios.seals_of_one_view,
    ),
    Mutant(
        "PREPARE counted without matching digest",
        "Castro and Liskov 1999, 4.2: a prepare matches its pre-prepare",
        replaced((VoteBox, "count", faults.counted_over_digests), (VoteBox, "signatures", faults.signatures_over_digests)),
        killers.model_equivocating_proposer,
    ),
    Mutant(
        "vote sent before it is durable",
        "row 9: tendermint 247, 984",
        subclass(faults.SpeaksFirst),
        killers.model_equivocating_proposer,
    ),
    Mutant(
        "a restarted node votes anew in its view",
        "row 9: tendermint 247",
        subclass(faults.ForgetsItsVotes),
        killers.model_equivocation_and_restarts,
    ),
    Mutant(
        "a restarted node forgets its certificate",
        "row 9: cometbft 6031, a rename that is not durable",
        subclass(faults.ForgetsItsLock),
        killers.model_view_change_and_restarts,
    ),
    Mutant(
        "a node that lost its log votes at once",
        "row 8: besu 8307",
        subclass(faults.VotesWithoutItsLog),
        scenarios.lost_log_is_silent,
    ),
    Mutant(
        "join a view on one sender",
        "row 4: FISCO-BCOS 2211, 2312",
        replaced((ViewChangeBox, "joinable_view", faults.joins_one_sender)),
        scenarios.one_liar_drags_nobody,
    ),
    Mutant(
        "votes of every view are kept",
        "row 4: Besu GHSA-23rh-rrqg-wq82",
        replaced((VoteBox, "wants", faults.every_view_wanted)),
        scenarios.votes_of_far_views_are_dropped,
    ),
    Mutant(
        "signers of a certificate need not be distinct",
        "row 3: a certificate proves nothing by its length",
        replaced((certs, "_ascending_quorum", faults.signers_not_distinct)),
        scenarios.distinct_signers,
    ),
    Mutant(
        "prepared certificates are not verified",
        "row 3: FISCO-BCOS 2448",
        replaced((certs, "verify_prepared", faults.unchecked_certificate)),
        scenarios.forged_certificate_is_refused,
    ),
    Mutant(
        "certificate checked against the next set",
        "row 12: fabric 5024",
        subclass(faults.ChecksAgainstTheNextSet),
        scenarios.set_of_the_height,
    ),
    Mutant(
        "catch-up accepts a block without certificate",
        "row 11: CometBFT ASA-2025-001",
        subclass(faults.BelievesPeers),
        scenarios.no_block_without_certificate,
    ),
    Mutant(
        "no decision is heard while a view changes",
        "row 6: sawtooth-pbft 90, 117",
        subclass(faults.DeafWhileViewChanging),
        scenarios.decision_ends_view_change,
    ),
    Mutant(
        "a stale proposal survives a decision",
        "row 6: sawtooth-pbft 140",
        subclass(faults.KeepsTheProposal),
        scenarios.next_height_starts_clean,
    ),
    Mutant(
        "view not bound into the signature",
        "row 10: replay across views",
        replaced((Domain, "digest", faults.view_not_signed)),
        scenarios.signature_binds_view,
    ),
    Mutant(
        "height not bound into the signature",
        "row 10: replay across heights",
        replaced((Domain, "digest", faults.height_not_signed)),
        scenarios.signature_binds_height,
    ),
    Mutant(
        "kind not bound into the signature",
        "row 10: replay across message kinds",
        replaced((Domain, "digest", faults.kind_not_signed)),
        scenarios.signature_binds_kind,
    ),
    Mutant(
        "a late NEW-VIEW is entered",
        "row 6: sawtooth-pbft 113, a lower view adopted",
        subclass(faults.GoesBack),
        scenarios.late_new_view_is_ignored,
    ),
    Mutant(
        "a vote for what the application refused",
        "Castro and Liskov 1999: validity is the application's word",
        subclass(faults.TakesTheApplicationForGranted),
        killers.model_equivocating_proposer,
    ),
    Mutant(
        "a replica runs ahead through views alone",
        "row 8: besu 1822; the timer waits for a quorum",
        subclass(faults.RunsAhead),
        scenarios.nobody_runs_ahead_alone,
    ),
    Mutant(
        "a silent proposer with nothing pending is never suspected",
        "row 15: sawtooth-rfcs 29",
        subclass(faults.WatchesNobody),
        scenarios.idle_proposer_is_suspected,
    ),
)
