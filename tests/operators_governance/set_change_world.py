"""Four hubs as real processes, whose operators change the validator set with the command line."""

from __future__ import annotations

import contextlib
import io
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from four_operators import Operator, complete_config, found_network, make_operators, send, until

from hub.cli import main
from hub.ppdl.consensus.certs import Domain
from hub.ppdl.consensus.header import Header
from hub.ppdl.consensus.messages import Kind
from hub.ppdl.genesis import load_genesis
from hub.ppdl.rows import split_seals

__all__ = ["Operator", "refused", "running_four", "send", "signers", "stop_all", "until"]


@contextlib.contextmanager
def running_four(root: Path, ports: Sequence[int]) -> Iterator[list[Operator]]:
    """A founded network that makes blocks; at the end whatever is in the list is stopped."""
    operators = make_operators(root, ["127.0.0.1"] * len(ports), ports, [[]] * len(ports))
    try:
        found_network(operators, root / "app-state.cbor")
        for one in operators:
            complete_config(one)
            one.start()
        until("the first blocks", lambda: min(one.height() for one in operators) >= 3, operators)
        yield operators
    finally:
        stop_all(operators)


def stop_all(operators: Sequence[Operator]) -> list[int]:
    """Exit codes of those that run."""
    return [one.stop() for one in operators if one.process is not None and one.process.poll() is None]


def refused(*arguments: object) -> str:
    """The one sentence of a command that cannot be done."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(map(str, arguments)))
    assert (code, out.getvalue()) == (1, ""), (code, out.getvalue(), err.getvalue())
    (line,) = err.getvalue().strip().splitlines()
    return line


def signers(one: Operator, height: int) -> set[str]:
    """Whose seals are under a block on this operator's disk."""
    genesis = load_genesis(one.folder / "genesis.cbor")
    with contextlib.closing(sqlite3.connect(f"file:{one.folder}/state/ppdl.sqlite?mode=ro", uri=True)) as store:
        header, view, seals = store.execute("SELECT header, view, seals FROM blocks WHERE height=?", (height,)).fetchone()
    block, domain = Header.decode(bytes(header)), Domain(genesis.chain_id, genesis.hash)
    found = (domain.signer(Kind.COMMIT, height, view, block.hash, seal) for seal in split_seals(bytes(seals)))
    return {"0x" + address.hex() for address in found}
