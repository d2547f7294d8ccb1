"""The border of CometBFT and the application, call by call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from engine_app import CounterApp

from hub.ppdl.application import BlockCtx, BlockResult, Verdict
from hub.ppdl.chain import ExecutionError
from hub.ppdl.consensus.block import MAX_BLOCK_TXS, MAX_TX_BYTES
from hub.ppdl.engines.cometbft import wire
from hub.ppdl.engines.cometbft.bridge import UNAVAILABLE_ASKS, Bridge, CometBlock, chain_name
from hub.ppdl.engines.cometbft.chainfile import ChainFile
from hub.ppdl.engines.cometbft.home import public_key_of
from hub.ppdl.engines.cometbft.messages import Call, Request
from hub.ppdl.engines.cometbft.wire import WireError, bytes_field, int_field, message_field, text_field
from hub.ppdl.genesis import make_genesis
from hub.ppdl.sim.keys import validator_keys
from hub.ppdl.store import StoreError
from openmg.signing import address_of

KEYS = validator_keys(4)
ADDRESSES = [address_of(key) for key in KEYS]
GENESIS = make_genesis(7, ADDRESSES[:2], b"state", 1_700_000_000_000)
TIME = int_field(1, 1_700_000_001) + int_field(2, 500_000_000)


class Moody(CounterApp):
    """Says of the next proposals what it is told to."""

    moods: list[Verdict]

    def process_proposal(self, ctx: BlockCtx, txs: Sequence[bytes]) -> Verdict:
        return self.moods.pop(0) if getattr(self, "moods", None) else super().process_proposal(ctx, txs)


class World:
    """A bridge over a fresh application and chain file."""

    def __init__(self, folder: Path) -> None:
        self.app = Moody(folder / "app.json")
        self.told: list[tuple[CometBlock, BlockResult]] = []
        self.file = ChainFile(folder / "chain.sqlite", GENESIS.hash, create=True)
        keys = {address_of(key): public_key_of(key) for key in KEYS[:3]}
        self.bridge = Bridge(self.app, GENESIS, keys, self.file, lambda *told: self.told.append(told))

    def call(self, call: Call, body: bytes = b"") -> wire.Fields:
        return wire.parse(self.bridge.answer(Request(call, wire.parse(body))))

    def check(self, tx: bytes, recheck: bool = False) -> tuple[int, str]:
        fields = self.call(Call.CHECK_TX, bytes_field(1, tx) + int_field(2, recheck))
        return wire.get_int(fields, 1), wire.get_text(fields, 3)

    def process(self, txs: Sequence[bytes]) -> bool:
        return wire.get_int(self.call(Call.PROCESS_PROPOSAL, block(self.app.height + 1, txs)), 1) == 1

    def finalise(self, txs: Sequence[bytes]) -> dict[bytes, int]:
        """The changed powers by public key."""
        fields = self.call(Call.FINALIZE_BLOCK, block(self.app.height + 1, txs))
        updates = [wire.parse(one) for one in wire.get_all_bytes(fields, 3)]
        return {wire.get_bytes(wire.parse(wire.get_bytes(one, 1)), 5): wire.get_int(one, 2) for one in updates}

    def decide(self, txs: Sequence[bytes]) -> dict[bytes, int]:
        powers = self.finalise(txs)
        self.call(Call.COMMIT)
        return powers


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    name = text_field(2, chain_name(GENESIS))
    made.call(Call.INIT_CHAIN, name + bytes_field(5, b'{"genesis": "%s"}' % GENESIS.hash.hex().encode()))
    return made


def block(height: int, txs: Sequence[bytes], txs_field: int = 1) -> bytes:
    body = b"".join(message_field(txs_field, tx) for tx in txs) + int_field(5, height)
    return body + message_field(6, TIME) + bytes_field(8, ADDRESSES[0])


def test_a_block_reaches_application_and_listener(world: World) -> None:
    world.decide([b"inc:a"])
    ((told, result),) = world.told
    assert told.header == BlockCtx(1, 1_700_000_001_500, ADDRESSES[0])
    assert told.txs == (b"inc:a",) and result.events == (b"a",)
    assert world.call(Call.INFO)[4] == [1]


def test_another_genesis_is_refused(world: World) -> None:
    for name, state in ((chain_name(GENESIS), b"{}"), ("ppdl-8", GENESIS.hash.hex().encode())):
        with pytest.raises(ExecutionError, match="not the one of this genesis"):
            world.call(Call.INIT_CHAIN, text_field(2, name) + bytes_field(5, state))


def test_a_proposal_with_a_block_that_pbft_could_not_carry_gets_no_vote(world: World) -> None:
    assert world.process([b"inc:a", b"inc:b"])
    assert not world.process([b"inc:a", b"inc:a"])  # a transaction twice
    assert not world.process([b""])
    assert not world.process([bytes(MAX_TX_BYTES + 1)])
    assert not world.process([b"inc:%d" % i for i in range(MAX_BLOCK_TXS + 1)])
    assert not world.process([b"veto:1"])


def test_what_has_not_arrived_is_asked_again_for_a_moment(world: World) -> None:
    world.app.moods = [Verdict.UNAVAILABLE, Verdict.UNAVAILABLE]
    assert world.process([b"inc:a"])
    world.app.moods = [Verdict.UNAVAILABLE] * UNAVAILABLE_ASKS
    assert not world.process([b"inc:a"])
    assert world.app.moods == []


def test_the_choice_of_an_application_loses_what_it_would_refuse(world: World) -> None:
    def prepare(txs: Sequence[bytes], room: int = 10_000) -> tuple[bytes, ...]:
        return wire.get_all_bytes(world.call(Call.PREPARE_PROPOSAL, int_field(1, room) + block(1, txs, 2)), 1)

    assert prepare([b"inc:a", b"veto:1", b"inc:b", b"inc:a"]) == (b"inc:a", b"inc:b")
    assert world.check(b"veto:1", recheck=True) == (1, "no hub votes for it")  # so CometBFT forgets it
    assert prepare([b"inc:a", b"inc:b"], room=9) == (b"inc:a",)  # five bytes, a tag and a length
    world.app.prepare_proposal = lambda *_: 1 // 0  # type: ignore[method-assign, assignment, return-value]
    assert prepare([b"inc:a"]) == ()


def test_malformed_transactions_of_others_are_counted(world: World) -> None:
    assert world.check(b"garbled:1") == (2, "this is no transaction")
    assert world.check(b"late:1")[0] == 1
    assert world.check(bytes(MAX_TX_BYTES + 1))[0] == 2
    assert world.bridge.malformed == 2
    assert world.check(b"garbled:1", recheck=True)[0] == 2
    assert world.bridge.malformed == 2


def test_a_subject_is_free_again_when_its_transaction_is_gone(world: World) -> None:
    assert world.check(b"one-of:a:1")[0] == 0
    assert world.check(b"one-of:a:2")[0] == 1
    world.decide([])
    assert world.check(b"one-of:a:1", recheck=True)[0] == 0  # it still waits
    assert world.check(b"one-of:a:2")[0] == 1
    world.decide([b"one-of:a:1"])
    assert world.check(b"one-of:a:2")[0] == 0
    assert world.check(b"one-of:a:1")[0] == 3  # a block carried it


def test_set_changes_are_the_difference_in_order(world: World) -> None:
    keys = [public_key_of(key) for key in KEYS]
    stranger = b"-" + ADDRESSES[3]
    assert world.decide([stranger, b"+" + ADDRESSES[0]]) == {}  # no change: nobody leaves, one is there already
    assert world.decide([b"+" + ADDRESSES[2], b"-" + ADDRESSES[2]]) == {}  # the last word counts
    assert world.decide([b"+" + ADDRESSES[2], b"-" + ADDRESSES[0]]) == {keys[2]: 1, keys[0]: 0}
    assert world.decide([b"-" + ADDRESSES[2], b"+" + ADDRESSES[0]]) == {keys[2]: 0, keys[0]: 1}
    assert world.file.set_before(4) == tuple(sorted(ADDRESSES[1:3]))


def test_a_block_finalised_again_gives_the_same_set_change(world: World) -> None:
    tx = b"+" + ADDRESSES[2]
    first = world.finalise([tx])
    assert first and world.finalise([tx]) == first


def test_bad_set_changes_stop_the_node(world: World) -> None:
    with pytest.raises(ExecutionError, match="public key is not configured"):
        world.finalise([b"+" + ADDRESSES[3]])
    with pytest.raises(ExecutionError, match="bad validator updates in block 1"):
        world.finalise([b"-" + ADDRESSES[0], b"-" + ADDRESSES[1]])


def test_calls_that_are_switched_off_or_out_of_order(world: World) -> None:
    for call in (Call.EXTEND_VOTE, Call.VERIFY_VOTE_EXTENSION, Call.OFFER_SNAPSHOT, Call.APPLY_SNAPSHOT_CHUNK):
        with pytest.raises(WireError, match="switches off"):
            world.call(call)
    assert world.call(Call.LIST_SNAPSHOTS) == {}
    with pytest.raises(WireError, match="before a block was finalised"):
        world.call(Call.COMMIT)


def test_a_chain_file_is_not_made_beside_a_chain_or_shared_by_two(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is missing"):
        ChainFile(tmp_path / "c", GENESIS.hash)
    ChainFile(tmp_path / "c", GENESIS.hash, create=True).close()
    with pytest.raises(StoreError, match="another chain"):
        ChainFile(tmp_path / "c", bytes(32))
