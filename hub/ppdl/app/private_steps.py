"""A device's steps in a private round as rules: which dealing, masked update, signature and shares enter the open round.

Rules: each step is taken once, in its phase, by a device that took the steps before it. Everything that can be checked
without a masked update is checked here, by every replica: the form of a dealing, whose signature is under the set, and that
each revealed share is the one its owner dealt (by its digest). So what the state holds opens the sum, or shows whose dealing
is bad.
Not here: when a phase ends (`private_rounds`), the sum (`hub.learning.private_sum`).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import compress
from types import MappingProxyType

from hub.ppdl.app.commits import require_device
from hub.ppdl.app.duties import bitmap_of, marks_of
from hub.ppdl.app.learning_env import LearningEnv
from hub.ppdl.app.learning_view import LearningView, OpenModel, model_at
from hub.ppdl.app.private_state import Dealt, PrivateRound, SetSignature, Unmasked
from hub.ppdl.app.rejected import Rejected
from hub.ppdl.app.round_state import Commit
from hub.ppdl.app.state import Env, State
from openmg.learning.secure.chain_round import chain_terms
from openmg.learning.secure.opening import is_dealt
from openmg.learning.secure.terms import RoundTerms
from openmg.masking import is_mask_key
from openmg.messages.base import Signed, open_signed
from openmg.messages.private import PHASE_DEAL, PHASE_MASK, PHASE_SIGN, PHASE_UNMASK
from openmg.messages.secure import SHARE_BYTES, MaskCommit, RevealedShare, ShareDealing, SurvivorSet, Unmasking

OPENED_KEPT = 4
"""Rounds whose dealings stay decoded, 200 kB each: the open one of each replica of this process."""


def terms_of(state: LearningView, env: LearningEnv) -> RoundTerms:
    """The open round's terms; only once its members are fixed."""
    now, private = state.round, state.private[0]
    members = {device.address: device.mask_public for device in env.registered if device.address in private.members}
    return chain_terms(env.plan, env.chain_id, now.number, state.model.model_hash, private.seed, members)


def dealings_of(private: PrivateRound, chain_id: int) -> Mapping[bytes, ShareDealing]:
    """The dealings by dealer, ascending."""
    return _opened(private.dealings, chain_id)


@lru_cache(maxsize=OPENED_KEPT)
def _opened(dealings: tuple[Dealt, ...], chain_id: int) -> Mapping[bytes, ShareDealing]:
    """A function of its arguments; remembered because each unmasking of a round is held against all of its dealings."""
    return MappingProxyType({dealt.device: open_signed(ShareDealing, dealt.signed, chain_id).message for dealt in dealings})


def unmaskings_of(private: PrivateRound, round_id: bytes) -> dict[bytes, Unmasking]:
    """The unmaskings by holder, ascending."""
    dealers = [dealt.device for dealt in private.dealings]
    unmaskings = {}
    for item in private.unmaskings:
        owners = compress(dealers, marks_of(item.dealers, len(dealers)))
        shares = (item.shares[start : start + SHARE_BYTES] for start in range(0, len(item.shares), SHARE_BYTES))
        revealed = tuple(RevealedShare(owner, share) for owner, share in zip(owners, shares, strict=True))
        unmaskings[item.device] = Unmasking(round_id, revealed)
    return unmaskings


def survivor_set(state: LearningView, round_id: bytes) -> SurvivorSet:
    """The set that survivors sign: a function of the chain, no leader and no hub chooses it."""
    return SurvivorSet(round_id, state.round.included)


def admit_dealing(state: LearningView, signed: Signed[ShareDealing], payload: bytes, env: LearningEnv) -> LearningView:
    """The state with a member's dealing. Raises Rejected."""
    device, message = signed.signer, signed.message
    private, terms = _open_round(state, device, PHASE_DEAL, "dealing", env)
    if device not in private.members:
        raise Rejected(f"dealing: device 0x{device.hex()} did not commit in round {terms.round}")
    if any(known.device == device for known in private.dealings):
        raise Rejected(f"dealing: device 0x{device.hex()} already has one in round {terms.round}")
    if len(message.sealed) != len(terms.neighbours(device)):
        raise Rejected(f"dealing: it has {len(message.sealed)} sealed shares, not one for each neighbour", device)
    if not is_mask_key(message.round_public):
        raise Rejected("dealing: nobody can agree a secret with its public key", device)
    dealings = list(private.dealings)
    insort(dealings, Dealt(device, payload), key=lambda item: item.device)
    return replace(state, private=(replace(private, dealings=tuple(dealings)),))


def admit_mask(state: LearningView, signed: Signed[MaskCommit], env: LearningEnv) -> LearningView:
    """The state with a dealer's commitment to its masked update. Raises Rejected."""
    device, message = signed.signer, signed.message
    private, terms = _open_round(state, device, PHASE_MASK, "mask", env)
    if not any(dealt.device == device for dealt in private.dealings):
        raise Rejected(f"mask: device 0x{device.hex()} dealt no shares in round {terms.round}")
    if any(known.device == device for known in state.commits):
        raise Rejected(f"mask: device 0x{device.hex()} already promised a masked update in round {terms.round}")
    commits = list(state.commits)
    insort(commits, Commit(device, message.commitment), key=lambda item: item.device)
    return replace(state, commits=tuple(commits))


def admit_signature(state: LearningView, signed: Signed[SurvivorSet], env: LearningEnv) -> LearningView:
    """The state with a survivor's signature under the set. Raises Rejected."""
    device, message = signed.signer, signed.message
    private, terms = _open_round(state, device, PHASE_SIGN, "survivors", env)
    if message != survivor_set(state, terms.round_id) or device not in message.survivors:
        raise Rejected(f"survivors: round {terms.round} has another set, or the signer is not in it", device)
    if any(known.device == device for known in private.signatures):
        raise Rejected(f"survivors: device 0x{device.hex()} already signed the set of round {terms.round}")
    signatures = list(private.signatures)
    insort(signatures, SetSignature(device, signed.signature), key=lambda item: item.device)
    return replace(state, private=(replace(private, signatures=tuple(signatures)),))


def admit_unmasking(state: LearningView, signed: Signed[Unmasking], env: LearningEnv) -> LearningView:
    """The state with a survivor's shares, one of each dealer that dealt it any, of the kind that the set says.

    A survivor that leaves a dealer out says that it got nothing usable from it (`private_rounds.bad_dealers`). Raises Rejected.
    """
    device, message = signed.signer, signed.message
    private, terms = _open_round(state, device, PHASE_UNMASK, "unmasking", env)
    alive = frozenset(state.round.included)
    if device not in alive:
        raise Rejected(f"unmasking: device 0x{device.hex()} is no survivor of round {terms.round}")
    if any(known.device == device for known in private.unmaskings):
        raise Rejected(f"unmasking: device 0x{device.hex()} already revealed its shares in round {terms.round}")
    dealings = dealings_of(private, env.chain_id)
    if not dealings.keys() >= {item.owner for item in message.shares}:
        raise Rejected("unmasking: it has a share of a device that dealt none", device)
    if not all(is_dealt(terms, dealings, device, item, item.owner in alive) for item in message.shares):
        raise Rejected("unmasking: a share is not the one that was dealt", device)
    unmaskings = list(private.unmaskings)
    owners = {item.owner for item in message.shares}
    shares = b"".join(item.share for item in message.shares)
    revealed = Unmasked(device, bitmap_of([dealer in owners for dealer in dealings]), shares)
    insort(unmaskings, revealed, key=lambda item: item.device)
    return replace(state, private=(replace(private, unmaskings=tuple(unmaskings)),))


def model_of_round(state: State, round_id: bytes, env: Env, what: str) -> OpenModel:
    """The model whose open round has this id, which binds its base model and with it its name. Raises Rejected."""
    for place in range(len(env.learning)):
        now = model_at(state, place, env)
        if now.view.private and now.view.private[0].members and terms_of(now.view, now.env).round_id == round_id:
            return now
    raise Rejected(f"{what}: it is not of an open private round, with the members of the chain")


def _open_round(state: LearningView, device: bytes, phase: str, what: str, env: LearningEnv) -> tuple[PrivateRound, RoundTerms]:
    """The open round and its terms. Raises Rejected when this is no time for the step."""
    require_device(device, env, what)
    if state.round.phase != phase:
        raise Rejected(f"{what}: round {state.round.number} is in its phase {state.round.phase}, not {phase}")
    return state.private[0], terms_of(state, env)
