"""The application at the engine's border: proposals, restarts, determinism across processes, malformed bytes."""

from __future__ import annotations

import ast
import dataclasses
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from app_world import (
    CHAIN_ID,
    FIRST_SLOT,
    METERS,
    MODEL,
    PLAN,
    VALIDATOR_KEYS,
    app_genesis,
    block,
    commit,
    ctx,
    evaluation,
    genesis,
    roster,
    slot_tx,
    started,
)
from governance_support import KEYS, NEW_KEYS, change, evidence, passing, validators, vote
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.duties import AggregateProposal, Availability
from hub.ppdl.app.duties import Verdict as RoundVerdict
from hub.ppdl.app.genesis_state import AppGenesis, AppStateError, Device, Feeder, make_app_genesis
from hub.ppdl.app.storage import StorageError
from hub.ppdl.app.transactions import (
    InferenceRequest,
    InvalidTransaction,
    Transaction,
    decode_tx,
    duty_tx,
    evidence_tx,
    inference_tx,
)
from hub.ppdl.app.verdicts import proposal_hash
from hub.ppdl.application import Application, Verdict
from openmg import codec
from openmg.forecast.model import initial_master
from openmg.forecast.quantities import METERED
from openmg.forecast.spec import IMPORT_ENERGY, NET_ENERGY, ForecastSpec
from openmg.learning.quantise import model_hash
from openmg.signing import address_of
from openmg.zk.curve import G1_BYTES, G2_BYTES
from openmg.zk.field import R
from openmg.zk.keys import ensure_keys

NAME = model_hash(PLAN.spec, initial_master(PLAN.spec, PLAN.seed))


def script() -> list[list[bytes]]:
    """Blocks with every kind of transaction, good and bad, and a completed round."""
    request = inference_tx(InferenceRequest(1337, b"\xc0" * 20, 5, 2), CHAIN_ID, VALIDATOR_KEYS[2])
    proof = evidence_tx(evidence(KEYS[1]).encoded)
    return [
        [slot_tx(FIRST_SLOT), *(commit(meter, NAME) for meter in METERS[:3])],
        [
            evaluation(METERS[3], NAME),
            b"nonsense",
            slot_tx(FIRST_SLOT),
            *passing(change(add=NEW_KEYS[0]), KEYS[:2], NEW_KEYS[0]),
        ],
        [commit(METERS[5], NAME), request, slot_tx(FIRST_SLOT + 1), vote(change(add=NEW_KEYS[0]), KEYS[3]), proof],
        [duty_tx(Availability(MODEL, 0, b"\x0f", b"\x00"), CHAIN_ID, key) for key in KEYS[:3]],
        aggregated(),
    ]


def aggregated() -> list[bytes]:
    """What closes round 0 in the first block of the set of five: validators may agree on any aggregate."""
    keys = sorted((*KEYS, NEW_KEYS[0]), key=address_of)
    size = PLAN.spec.master_bytes
    proposal = AggregateProposal(MODEL, 0, 0, b"\x01" * size, bytes(size), 1, b"\x00", ())
    word = RoundVerdict(MODEL, 0, 0, proposal_hash(proposal), True)
    return [duty_tx(proposal, CHAIN_ID, keys[0]), *(duty_tx(word, CHAIN_ID, key) for key in keys[1:4])]


def play(application: PpdlApplication, blocks: list[list[bytes]]) -> list[bytes]:
    return [block(application, txs).app_hash for txs in blocks]


def test_the_script_completes_a_round(tmp_path: Path) -> None:
    application = started(tmp_path / "app.sqlite")
    play(application, script())
    now = application._view().state.models[0].round
    assert (now.number, now.completed) == (1, 1)
    application.close()


def test_it_is_an_application(tmp_path: Path) -> None:
    application: Application = started(tmp_path / "app.sqlite")
    assert application.info().last_height == 0
    assert application.info().app_hash == application.init_chain(genesis()).app_hash


def test_replicas_with_other_hash_seeds_and_cpu_kernels_agree(tmp_path: Path, repo_root: Path) -> None:
    code = """
import sys; sys.path[:0] = ["tests", "tests/ppdl"]
from pathlib import Path
from openmg import codec
from test_app_shell import play, started
blocks = codec.decode(Path(sys.argv[2]).read_bytes())
print("\\n".join(digest.hex() for digest in play(started(Path(sys.argv[1])), blocks)))
"""
    outputs, blocks = [], tmp_path / "blocks.cbor"
    blocks.write_bytes(codec.encode(script()))
    for number, kernel in enumerate(("NEHALEM", "HASWELL")):
        env = {**os.environ, "PYTHONHASHSEED": str(number + 1), "OPENBLAS_CORETYPE": kernel}
        command = [sys.executable, "-c", code, str(tmp_path / f"{number}.sqlite"), str(blocks)]
        out = subprocess.run(command, cwd=repo_root, env=env, capture_output=True, text=True, timeout=60)
        assert out.returncode == 0, out.stderr
        outputs.append(out.stdout.split())
    assert outputs[0] == outputs[1] == [h.hex() for h in play(started(tmp_path / "here.sqlite"), script())]
    assert len(set(outputs[0])) == 5


def test_a_restart_at_any_height_continues_with_the_same_hashes(tmp_path: Path) -> None:
    expected = play(started(tmp_path / "whole.sqlite"), script())
    for stop in range(1, 5):
        path = tmp_path / f"stop-{stop}.sqlite"
        first = started(path)
        hashes = play(first, script()[:stop])
        first.finalize_block(ctx(stop + 1), script()[stop])  # decided, not committed: the engine sends it again
        first.close()
        second = PpdlApplication(path)
        assert (second.info().last_height, second.info().app_hash) == (stop, hashes[-1])
        assert play(second, script()[stop:]) == expected[stop:]
        assert second.query("events/1", b"").ok
        assert [len(one.addresses) for one in validators(second).sets] == [4, 5] and validators(second).flagged
        second.close()


def test_finalize_has_no_effect_before_commit(tmp_path: Path) -> None:
    application = started(tmp_path / "app.sqlite")
    blocks = script()
    once = application.finalize_block(ctx(1), blocks[0])
    assert application.info().last_height == 0
    assert application.check_tx(blocks[0][0]).ok
    assert application.finalize_block(ctx(1), blocks[0]) == once
    application.commit()
    assert application.info().app_hash == once.app_hash
    with pytest.raises(RuntimeError, match="commit without"):
        application.commit()
    with pytest.raises(RuntimeError, match="cannot follow"):
        application.finalize_block(ctx(1), [])


def test_a_proposal_holds_only_what_takes_effect_and_fits(tmp_path: Path) -> None:
    application = started(tmp_path / "app.sqlite")
    slot, promised = slot_tx(FIRST_SLOT), commit(METERS[0], NAME)
    waiting = [b"nonsense", slot, slot, promised, evaluation(METERS[0], bytes(32))]
    chosen = application.prepare_proposal(ctx(1), waiting, 10**6)
    assert chosen == [slot, promised]
    assert application.prepare_proposal(ctx(1), waiting, len(slot) - 1) == [promised]
    assert application.process_proposal(ctx(1), chosen) is Verdict.ACCEPT
    for bad in (waiting[0], slot, waiting[-1]):
        assert application.process_proposal(ctx(1), [*chosen, bad]) is Verdict.REJECT
    assert application.process_proposal(ctx(1), []) is Verdict.ACCEPT
    assert application.info().last_height == 0


def test_transactions_that_exclude_each_other_have_one_subject(tmp_path: Path) -> None:
    application = started(tmp_path / "app.sqlite")
    part = roster(meters=METERS[:5])
    alike = [
        (commit(METERS[0], NAME), commit(METERS[0], NAME, blob=b"another")),
        (evaluation(METERS[0], NAME), evaluation(METERS[0], NAME, loss_micro=7)),
        (slot_tx(FIRST_SLOT), slot_tx(FIRST_SLOT, part)),
        tuple(inference_tx(InferenceRequest(1, bytes(20), 5, 1), CHAIN_ID, key) for key in VALIDATOR_KEYS[:2]),
    ]
    others = (commit(METERS[1], NAME), evaluation(METERS[1], NAME), slot_tx(FIRST_SLOT + 1))
    subjects = [{application.check_tx(tx).subject for tx in pair} for pair in alike]
    assert [len(found) for found in subjects] == [1, 1, 1, 1]
    different = {application.check_tx(tx).subject for tx in others}.union(*subjects)
    assert len(different) == 7 and b"" not in different


def test_databases_of_other_chains_and_layouts_are_refused(tmp_path: Path) -> None:
    application = started(tmp_path / "app.sqlite")
    block(application)
    other = genesis(dataclasses.replace(PLAN, seed=b"another"))
    with pytest.raises(StorageError, match="belongs to another chain"):
        application.init_chain(other)
    application.close()
    with sqlite3.connect(tmp_path / "app.sqlite") as db:
        db.execute("PRAGMA user_version=9")
    db.close()
    with pytest.raises(StorageError, match="layout 9 instead of 6"):
        PpdlApplication(tmp_path / "app.sqlite")
    with pytest.raises(StorageError, match="cannot be opened"):
        PpdlApplication(tmp_path / "missing" / "app.sqlite")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_malformed_transactions_raise_one_kind_of_error(data: bytes) -> None:
    with pytest.raises(InvalidTransaction):
        decode_tx(data)


@pytest.mark.parametrize("kind", ["slot", "commit", "evaluation", "inference", "available", "aggregate", "verdict"])
def test_malformed_payloads_and_flipped_bytes_never_crash(tmp_path: Path, kind: str) -> None:
    application = started(tmp_path / "app.sqlite")
    play(application, script()[: {"available": 3, "aggregate": 4, "verdict": 4}.get(kind, 0)])
    if kind == "verdict":
        block(application, aggregated()[:1])
    good = {decode_tx(tx).kind: tx for txs in script() for tx in txs if tx != b"nonsense"}[kind]
    assert application.check_tx(good).ok
    for payload in (b"", b"\x80", b"\xff" * 40, codec.encode([b"", b""]), codec.encode({"a": 1})):
        verdict = application.check_tx(Transaction(kind, payload).encode())
        assert not verdict.ok and verdict.malformed
    refused = application.check_tx(evaluation(METERS[0], bytes(32)))
    assert not refused.ok and not refused.malformed  # well formed, but of another model
    step = max(1, len(good) // 120)
    for place in range(0, len(good), step):
        flipped = good[:place] + bytes([good[place] ^ 0x41]) + good[place + 1 :]
        assert not application.check_tx(flipped).ok, place


def test_unknown_queries_are_answered_with_a_sentence(tmp_path: Path) -> None:
    application = started(tmp_path / "app.sqlite")
    for path in (
        "",
        "nonsense",
        "slots/",
        "slots/x",
        "slots/9",
        "slot-leaves/1",
        f"slot-leaves/1/{FIRST_SLOT}",
        "slot-leaves/1/" + "9" * 40,
        "history/9",
        "inference/1",
        "events/1",
        "events/" + "9" * 40,
    ):
        result = application.query(path, b"")
        assert not result.ok and result.reason and result.value == b"", path


def test_genesis_state_is_canonical_and_checked() -> None:
    whole = app_genesis()
    assert AppGenesis.decode(whole.encode()) == whole
    device, feeder = whole.devices[0], whole.feeders[0]
    learning_more = dataclasses.replace(whole, devices=tuple(dataclasses.replace(d, quantities=METERED) for d in whole.devices))
    assert AppGenesis.decode(learning_more.encode()) == learning_more
    for devices, feeders, problem in (
        ([], [feeder], "1 to 4096 devices"),
        ([device, device], [feeder], "distinct addresses"),
        (list(whole.devices), [feeder], "no feeder history"),
        ([device], list(whole.feeders), "4 devices and a committee of 0 others but 1"),
    ):
        with pytest.raises(AppStateError, match=problem):
            make_app_genesis(devices, feeders, (PLAN,), whole.commit_key)
    for spec in (IMPORT_ENERGY, ForecastSpec(resolution_minutes=30), ForecastSpec(horizon_hours=48)):
        with pytest.raises(AppStateError, match=f"the first plan's forecaster must be {NET_ENERGY.model_id}, for which"):
            dataclasses.replace(learning_more, plans=(dataclasses.replace(PLAN, spec=spec),))
    with pytest.raises(AppStateError, match="100 hours of past"):
        Feeder(1, 0, (0,) * 100)
    with pytest.raises(AppStateError, match="wrong length"):
        Device(b"", bytes(32), 1, "home-1", 5)
    for meter_id in (0, R):
        with pytest.raises(AppStateError, match="meter id outside"):
            dataclasses.replace(device, meter_id=meter_id)
    with pytest.raises(AppStateError, match="have one meter id"):
        dataclasses.replace(whole, devices=(device, dataclasses.replace(whole.devices[1], meter_id=device.meter_id)))
    for key, problem in (
        (whole.commit_key[:-1], "no verifying key"),
        (ensure_keys("period").verifying_key.to_bytes(), "3 public inputs; give that of commit"),
        (_forgeable(whole.commit_key), "gamma = delta"),
    ):
        with pytest.raises(AppStateError, match=problem):
            dataclasses.replace(whole, commit_key=key)
    for bad in (b"", codec.encode([]), codec.encode({"devices": 1, "feeders": [], "plans": []})):
        with pytest.raises(AppStateError):
            AppGenesis.decode(bad)


def _forgeable(commit_key: bytes) -> bytes:
    """The key with delta in place of gamma: its bytes are alpha1, then beta2, gamma2 and delta2."""
    gamma, delta, rest = G1_BYTES + G2_BYTES, G1_BYTES + 2 * G2_BYTES, G1_BYTES + 3 * G2_BYTES
    return commit_key[:gamma] + commit_key[delta:rest] + commit_key[delta:]


AGREED = (
    "hub/ppdl/app",
    "openmg/learning/aggregate.py",
    "openmg/learning/rules",
    "openmg/learning/plan.py",
    "openmg/forecast/fixedpoint.py",
)
AGREED_MODULES = (*AGREED, "openmg/masking", "openmg/hashing.py", "openmg/codec.py")


def test_nothing_that_is_agreed_on_computes_with_floats_clocks_or_chance(repo_root: Path) -> None:
    files = [file for name in AGREED_MODULES for file in sorted((repo_root / name).rglob("*.py")) or [repo_root / name]]
    assert len(files) > 12
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            where = f"{file.name}:{getattr(node, 'lineno', 0)}"
            assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), where
            assert not (isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div)), where
            assert not (isinstance(node, ast.Name) and node.id in ("float", "hash")), where
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not {"time", "random", "secrets", "datetime", "socket"} & set(modules), where
