"""Viewing keys and disclosures, from the owner's command to the auditor's: what each shows, and what it cannot."""

from __future__ import annotations

import json
import secrets
import stat
from pathlib import Path

import pytest
from owner_kit import CHAIN_ID, CONTRACT, SOON, make_wallet_database, run, seed_of
from purse_kit import published, whole

from edge_agent.config import AgentConfig
from edge_agent.wallet import tool
from edge_agent.wallet.keys import OwnerKeys
from edge_agent.wallet.note_store import NoteStore
from edge_agent.wallet.notes import PETH, NotePurse
from edge_agent.wallet.service import DATABASE
from openmg.keys.audit import Disclosure, audit
from openmg.keys.audit import main as audit_main
from openmg.keys.text import decode_viewing_key
from openmg.messages.market import PADDING, NoteEntry
from openmg.zk.notes import Note, encrypt_note

pytestmark = pytest.mark.usefixtures("nobody_at_a_terminal_and_a_cheap_seal")


@pytest.fixture
def notes(owner) -> list[NoteEntry]:
    """Leaves of the owner (one spent) and of others, which the owner's wallet has heard; the chain's order."""
    keys, bob = OwnerKeys(seed_of(owner)), OwnerKeys(b"b" * 32)
    make_wallet_database(owner)
    store = NoteStore(owner.device.state_dir / DATABASE)
    purse = NotePurse(keys, store, CHAIN_ID, CONTRACT, bytes(32))
    leaves = whole(leaf(keys, 30), leaf(bob, 5), leaf(keys, 100), leaf(keys, 7))
    purse.learn(0, leaves)
    leaves += whole(*published(purse.begin_payment("rent", bob.spending_key.address, 60, SOON)))
    purse.learn(0, leaves)
    assert purse._store.spendable(PETH)[0].amount == 40
    store.close()
    return leaves


def leaf(keys: OwnerKeys, amount: int) -> NoteEntry:
    made = Note(PETH, amount, keys.spending_key.public_key, secrets.randbelow(2**250))
    return NoteEntry(made.commitment, encrypt_note(made, keys.spending_key.address, secrets.token_bytes(32)))


def chain_file(folder: Path, owner: AgentConfig, notes: list[NoteEntry]) -> Path:
    """The events that an auditor reads from its own node: of four notes and two, in a batch each, and one in the queue."""
    queued = [entry for entry in notes if entry != PADDING] + [leaf(OwnerKeys(seed_of(owner)), 1)]
    rows = [
        {"index": place, "cm": hex(entry.commitment), "ciphertext": "0x" + entry.ciphertext.hex()}
        for place, entry in enumerate(queued)
    ]
    rows += [{"start": 0, "firstIndex": 0, "count": 4}, {"start": 16, "firstIndex": 4, "count": 2}]
    key = OwnerKeys(seed_of(owner)).spending_key
    spent = Note(PETH, 100, key.public_key, opening(owner, 2)).nullifier(key.nullifier_key, 0, 2)
    path = folder / "chain.jsonl"
    path.write_text("\n".join(map(json.dumps, [*rows, {"nullifier": hex(spent)}])), encoding="utf-8")
    return path


def opening(owner: AgentConfig, position: int) -> int:
    store = NoteStore(owner.device.state_dir / DATABASE)
    try:
        return store.notes_between(position, position)[0][0].blinding
    finally:
        store.close()


@pytest.mark.parametrize("kind", ["incoming", "full"])
def test_an_auditor_sees_with_a_viewing_key_what_it_is_for(owner, config_path, notes, tmp_path, kind, capsys):
    output = tmp_path / "key.txt"
    assert run("wallet", "viewing-key", "--config", config_path, "--kind", kind, "--output", output) == 0
    text = output.read_text(encoding="utf-8")
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    key = OwnerKeys(seed_of(owner)).spending_key.viewing_key
    assert decode_viewing_key(text, "test") == (key if kind == "full" else key.incoming)
    capsys.readouterr()
    assert audit_main([str(output), str(chain_file(tmp_path, owner, notes))]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["position"], row["amount"]) for row in rows] == [(0, "30"), (2, "100"), (3, "7"), (17, "40")]
    seen = [row["spent"] for row in rows]
    assert seen == (["unspent", "spent", "unspent", "unspent"] if kind == "full" else ["not shown"] * 4)


@pytest.mark.parametrize("kind", ["incoming", "full"])
def test_a_disclosure_shows_its_range_and_holds_no_key(owner, config_path, notes, tmp_path, kind, capsys):
    output = tmp_path / "auditor.json"
    range_of = ["--from", 1, "--to", 3, "--output", output]
    assert run("wallet", "viewing-key", "--config", config_path, "--kind", kind, *range_of) == 0
    text = output.read_text(encoding="utf-8")
    chain = chain_file(tmp_path, owner, notes)
    seen = audit(text, chain.read_text(encoding="utf-8").splitlines(), "test")
    assert [(item.position, item.note.amount) for item in seen] == [(2, 100), (3, 7)]
    assert [item.spent for item in seen] == ([True, False] if kind == "full" else [None, None])
    keys = OwnerKeys(seed_of(owner))
    key = keys.spending_key
    numbers = (key.secret, key.nullifier_key, int.from_bytes(key.decryption_key, "big"), int.from_bytes(keys.seed, "big"))
    assert not any(form in text for number in numbers for form in (f"{number:x}", str(number)))
    capsys.readouterr()
    assert audit_main([str(output), str(chain)]) == 0 and len(capsys.readouterr().out.splitlines()) == 2
    forged = tmp_path / "forged.json"
    forged.write_text(text.replace('"amount": "100"', '"amount": "101"'), encoding="utf-8")
    assert audit_main([str(forged), str(chain)]) == 1
    assert "note 2 does not open its own commitment" in capsys.readouterr().err


def test_a_disclosure_of_what_was_not_heard_is_refused(owner, config_path, notes, capsys):
    for first, last, why in (
        (0, 32, "has heard of 32 leaves, so positions end at 31"),
        (3, 2, "are no range"),
        (-1, 2, "no range"),
    ):
        arguments = ["--kind", "full", "--from", first, "--to", last, "--output", "unused"]
        assert run("wallet", "viewing-key", "--config", config_path, *arguments) == 1
        assert why in capsys.readouterr().err
    assert run("wallet", "viewing-key", "--config", config_path, "--kind", "full", "--from", 1) == 2


def test_a_viewing_key_does_not_go_into_a_pipe(owner, config_path, capsys):
    assert run("wallet", "viewing-key", "--config", config_path, "--kind", "incoming") == 1
    told = capsys.readouterr()
    assert told.out == "" and "--output FILE" in told.err


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{",
        "[]",
        '{"format": "openmg disclosure 1"}',
        "openmgtest1qqqq",
        "",
        '{"format": 1, "kind": "full"}',
        "{" * 100_000,
    ],
)
def test_garbage_is_no_disclosure_and_no_key(text, tmp_path, capsys):
    secret, chain = tmp_path / "secret", tmp_path / "chain"
    secret.write_text(text, encoding="utf-8")
    chain.write_text("", encoding="utf-8")
    assert audit_main([str(secret), str(chain)]) == 1 and capsys.readouterr().err.startswith(str(secret))


@pytest.mark.parametrize(
    "line", ["[]", "1", "{}", '{"index": 0}', '{"nullifier": 5}', '{"index": 0, "cm": "x"}', '{"start": 0}', "nul"]
)
def test_a_line_of_the_chain_file_that_is_no_event_is_named(owner, line, tmp_path, capsys):
    secret, chain = tmp_path / "secret", tmp_path / "chain"
    secret.write_text(tool.viewing_key(owner, "full"), encoding="utf-8")
    chain.write_text("\n" + line, encoding="utf-8")
    assert audit_main([str(secret), str(chain)]) == 1 and "line 2 of the chain file" in capsys.readouterr().err


def test_a_chain_file_that_leaves_out_a_note_is_refused(owner, tmp_path, capsys):
    """An auditor who lost an event would believe that a note does not exist."""
    secret, chain = tmp_path / "secret", tmp_path / "chain"
    secret.write_text(tool.viewing_key(owner, "full"), encoding="utf-8")
    chain.write_text('{"start": 0, "firstIndex": 0, "count": 1}', encoding="utf-8")
    assert audit_main([str(secret), str(chain)]) == 1 and "add all NoteQueued events" in capsys.readouterr().err


def test_an_auditor_without_files_is_told_so(tmp_path, capsys):
    assert audit_main([str(tmp_path / "none"), str(tmp_path / "neither")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_every_field_of_a_disclosure_counts(owner, notes):
    table = json.loads(tool.disclosure(owner, "full", 0, 17))
    assert Disclosure.from_json(json.dumps(table), "test").to_json() == json.dumps(table, indent=1)
    row = table["notes"][1]
    for name, value in (("amount", "99"), ("asset", "0x4"), ("blinding", "0x5"), ("commitment", "0x5"), ("nullifier", None)):
        changed = dict(table, notes=[dict(row, **{name: value})])
        with pytest.raises(ValueError):
            Disclosure.from_json(json.dumps(changed), "test")
    other = dict(table, address=tool.address(owner)[:-1] + "q")
    with pytest.raises(ValueError, match="no disclosure"):
        Disclosure.from_json(json.dumps(other), "test")
