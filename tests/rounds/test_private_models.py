"""Two models of one chain that both hide their updates: rounds side by side, each with its own members, sums and memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from private_world import SECRET, PrivateChain, last_record
from round_world import METERS, app_genesis

from edge_agent.learning.private_file import PrivateFile
from hub.learning.results import aggregate_of
from hub.ppdl.app.genesis_state import AppStateError
from hub.ppdl.app.transactions import commit_tx
from openmg.forecast.model import master_bytes
from openmg.forecast.spec import IMPORT_ENERGY
from openmg.learning.secure.terms import SecureError
from openmg.messages import topics
from openmg.messages.private import Registered

FIRST = dataclasses.replace(SECRET, reveal_blocks=20, aggregate_blocks=20, committee_blocks=20)
SECOND = dataclasses.replace(FIRST, spec=IMPORT_ENERGY)


def test_rounds_of_two_models_are_opened_side_by_side(tmp_path: Path) -> None:
    """Both are in the same phases of the same round; each opens the sum of its own updates."""
    chain = PrivateChain(tmp_path, FIRST, SECOND)
    commits = []
    for chain.place in (0, 1):
        now = chain.state
        commits += [chain.meters[m.address].commit(now.round.number, now.model.model_hash) for m in chain.trainers()]
    chain.good(*map(commit_tx, commits))
    chain.until("deal")
    blobs = {}
    for step in ("deal", "mask", "show", "sign", "unmask"):
        for chain.place in (0, 1):
            getattr(chain, step)()
            if step == "show":
                blobs[chain.place] = chain.blobs
    masters = []
    for chain.place in (0, 1):
        survivors = chain.state.round.included
        after = chain.stepped(chain.plain_sum(survivors), len(survivors))
        proposal = aggregate_of(chain.duties, blobs[chain.place])
        assert len(survivors) == 8 and proposal.master == master_bytes(after.master)
        chain.accept(proposal)
        chain.judge()
        assert last_record(chain).outcome == "learnt"
        masters.append(chain.state.model.master)
    assert masters[0] != masters[1]
    chain.close()


def test_a_step_counts_for_the_model_of_its_round_only(tmp_path: Path) -> None:
    chain = PrivateChain(tmp_path, FIRST, SECOND)
    for chain.place in (0, 1):
        now = chain.state
        chain.good(*(commit_tx(chain.meters[m.address].commit(0, now.model.model_hash)) for m in chain.trainers()))
    for chain.place in (0, 1):
        chain.until("deal")
    first = chain.txs(chain.members[:1], topics.DEALING)[0]
    other = chain._meters[0][chain.members[0]]
    assert other.hear(chain.notice) is None, "what that meter promised is an update to the other model"
    chain.good(first)
    assert len(chain.state.private[0].dealings) == 1
    chain.place = 0
    assert chain.state.private[0].dealings == ()
    chain.close()


def test_a_chain_hides_the_updates_of_all_its_models_or_of_none() -> None:
    app_genesis(FIRST, SECOND)
    with pytest.raises(AppStateError, match="some plans hide updates and some show them"):
        app_genesis(FIRST, dataclasses.replace(SECOND, privacy="none"))


def test_a_meter_that_hides_one_models_updates_shows_none_of_another(tmp_path: Path) -> None:
    PrivateFile(tmp_path, FIRST.spec.short_name).agree(FIRST)
    clear = dataclasses.replace(SECOND, privacy="none")
    for _ in range(2):
        with pytest.raises(SecureError, match="shows none of another model either"):
            PrivateFile(tmp_path, SECOND.spec.short_name).agree(clear)
    PrivateFile(tmp_path, SECOND.spec.short_name).agree(SECOND)


def test_a_model_that_a_hub_makes_up_has_no_members_that_it_makes_up(tmp_path: Path) -> None:
    """The registered devices are the chain's, whichever model a notice is about: those of the first one heard count for all."""
    chain = PrivateChain(tmp_path, FIRST, SECOND)
    for chain.place in (0, 1):
        now = chain.state
        chain.good(*(commit_tx(chain.meters[m.address].commit(0, now.model.model_hash)) for m in chain.trainers()))
    notices = []
    for chain.place in (0, 1):
        chain.until("deal")
        notices.append(chain.notice)
    victim = next(address for address in notices[0].members if address in notices[1].members)
    of_first, of_second = (meters[victim] for meters in chain._meters)
    assert notices[0].registry(7) == notices[1].registry(7)
    assert of_first.hear(notices[0]) is not None
    made_up = tuple(Registered(bytes([250 + i]) * 20, METERS[0].mask_public) for i in range(5))
    forged = dataclasses.replace(
        notices[1],
        members=(victim, *(item.address for item in made_up)),
        registered=(*notices[1].registered, *made_up),
    )
    with pytest.raises(SecureError, match="not those this meter agreed to"):
        of_second.hear(forged)
    assert of_second.hear(notices[1]) is not None
    chain.close()
