"""Two homes of a group exchange their loads and trades: nobody tells the runs apart, and each protection is why."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from openmg.envelope import ENVELOPES_PER_SLOT
from openmg.messages import topics
from openmg.zk.prove import prove_now
from openmg.zk.prover import ProofRequest
from openmg.zk.slot_proof import commit_witness
from workbench.linkage.classify import CLASSIFIERS, advantages
from workbench.linkage.features import vector
from workbench.linkage.scripted import LINKS
from workbench.linkage.study import study
from workbench.linkage.world import Guards, LinkageWorld, random_proof

RUNS = 160
CONTROL_RUNS = 40
"""A link that is found is found in every run; from 25 on this is told from chance, and a few may be missed."""
LEARNING_RUNS = 480
NAMES = (*CLASSIFIERS, *LINKS)


@pytest.fixture(scope="module")
def guarded():
    return study(RUNS)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_linkage_does_no_better_than_guessing(guarded, name):
    (found,) = [item for item in (*guarded.classifiers, *guarded.links) if item.classifier == name]
    assert found.is_guessing, found


def test_both_runs_have_one_shape():
    """What is no random-looking field is the same whichever home had the load: counts, sizes, topics, calls, totals."""
    world = LinkageWorld()
    for bit in (0, 1):
        seen = world.run(bit, bit)
        assert [[data[:4] for data in sorted(calls)] for calls in seen.calls] == [
            [data[:4] for data in sorted(calls)] for calls in world.run(1 - bit, 2 + bit).calls
        ]
        assert seen.totals_wh[0] == seen.totals_wh[1]
        for which, home in enumerate(seen.homes):
            assert [len(sent) for sent in home.sent] == [ENVELOPES_PER_SLOT] * 2
            assert {item.topic for sent in home.sent for item in sent} == {topics.from_meter(f"home-{which}", topics.ENVELOPE)}
        assert len({item.size for home in seen.homes for sent in home.sent for item in sent}) == 1
        assert len({len(data) for calls in seen.calls for data in calls}) == 2  # mints and purchases


@pytest.mark.parametrize(
    ("guards", "link"),
    [
        (Guards(masks=False), "amount"),
        (Guards(dummies=False), "topic"),
        (Guards(one_size=False), "size"),
        (Guards(common_root=False), "root"),
        (Guards(dummies=False, shuffle=False), "timing"),
    ],
)
def test_without_its_protection_each_link_is_found(guards, link):
    (found,) = [item for item in study(CONTROL_RUNS, guards).links if item.classifier == link]
    assert found.advantage > 0.6 and not found.is_guessing, found


@pytest.mark.slow
@pytest.mark.parametrize("guards", [Guards(masks=False), Guards(dummies=False), Guards(one_size=False)])
def test_without_a_protection_the_classifiers_learn(guards):
    """As the fields of a run are thousands, a learner needs more runs than a rule."""
    assert any(not item.is_guessing for item in study(LEARNING_RUNS, guards).classifiers)


def test_a_learner_finds_what_is_there_and_nothing_else():
    draw = np.random.default_rng(1)
    bits = draw.integers(0, 2, 400).astype(float)
    noise = draw.normal(size=(400, 30))
    assert all(item.is_guessing for item in advantages(noise, bits))
    noise[:, 7] += 4 * bits
    assert all(not item.is_guessing for item in advantages(noise, bits))


def _with_real_slot_proofs(circuit, stated):
    """The proofs that a hub sees of every home; those that only the chain sees stay random."""
    if circuit != "commit":
        return random_proof(circuit, stated)
    exported, imported, slot = stated
    return prove_now(ProofRequest("commit", commit_witness(exported, imported, 1, 2, slot), demo=True)).words


@pytest.mark.slow
def test_linkage_with_real_slot_proofs_does_no_better_than_guessing():
    assert study(120, prove=_with_real_slot_proofs).is_guessing


def test_processes_of_one_seed_have_one_world():
    """What others record of a home's keys must be the same in all parts of a study, or a learner sees several worlds."""
    first, second = (LinkageWorld(seed=bytes(32)) for _ in range(2))
    assert first._publics == second._publics and first._root == second._root
    assert [key.address for key in first._devices] == [key.address for key in second._devices]
    assert LinkageWorld()._publics != first._publics


def test_a_transcript_has_always_as_many_features():
    world = LinkageWorld()
    assert len({len(vector(world.run(bit, epoch))) for epoch, bit in enumerate((0, 1, 1, 0))}) == 1


@pytest.mark.slow
def test_the_command_tells_and_ends_well(repo_root):
    command = [sys.executable, "-m", "workbench.cli", "linkage", "--jobs", "2", "--json", "--runs", "12"]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    assert {item["trials"] for item in (*document["classifiers"], *document["links"])} == {12} == {document["runs"]}
    assert {item["classifier"] for item in document["links"]} == set(LINKS)
    refused = subprocess.run([*command[:-1], "3"], cwd=repo_root, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "four are the fewest" in refused.stderr
