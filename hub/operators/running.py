"""The hub that runs from a folder or a configuration, as a command on its machine reaches it.

Rules: what is read of the chain comes from the running hub over its control socket (`hub.control`); keys are read here, from
the hub's key file, and only signatures leave this process.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TypeVar

from hub.config import HubConfig
from hub.control.client import ask
from hub.control.place import ControlError, HubNotRunning
from hub.control.protocol import Answer, Query, Request, Submit
from hub.keys import HubKeys
from hub.operators.errors import OperatorError
from hub.operators.folder import HubFolder, load_card, read_genesis
from hub.ppdl.genesis import Genesis
from hub.ppdl.net.tls import CARD_SUFFIX
from openmg.config import load_toml
from openmg.messages.base import InvalidMessage, Message, decode

M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class RunningHub:
    """Where a hub's files are, and the chain it is on. `folder`: of its identity, None for a hub that talks plain TCP."""

    config_path: Path
    config: HubConfig
    genesis: Genesis
    folder: HubFolder | None

    @property
    def option(self) -> str:
        """How commands of this hub's operator name it."""
        own = self.folder is not None and self.folder.config == self.config_path
        return f"--dir {quote(str(self.config_path.parent))}" if own else f"--config {quote(str(self.config_path))}"

    def keys(self) -> HubKeys:
        """The hub's keys; OperatorError when there is no key file, since a new key would be nobody's."""
        path = self.config.hub.key_file
        if not path.exists():
            raise OperatorError(f"{path} is missing: restore it from your backup, a new key is no validator of this chain")
        return HubKeys.load(path)

    def query(self, path: str, answer: type[M]) -> M:
        """The application's answer to a path. Raises OperatorError."""
        said = self._ask(Query(path))
        if not said.ok:
            raise OperatorError(said.reason)
        try:
            return decode(answer, said.value)
        except InvalidMessage as error:
            raise OperatorError(f"the hub answered in another form ({error}): use its own version of openmg-hub") from error

    def submit(self, tx: bytes) -> None:
        """Hand a transaction over, which the hub checks and passes on. Raises OperatorError with the reason of a refusal."""
        said = self._ask(Submit(tx))
        if not said.ok:
            raise OperatorError(said.reason)

    def _ask(self, request: Request) -> Answer:
        try:
            return ask(self.config.hub.state_dir, request)
        except HubNotRunning as error:
            raise OperatorError(f"{error}: start it with openmg-hub run --config {self.config_path}, then try again") from error
        except ControlError as error:
            raise OperatorError(str(error)) from error

    def names(self) -> dict[bytes, str]:
        """What the cards held here call the validators; empty for a hub without cards."""
        if self.folder is None or not self.folder.own_card.exists():
            return {}
        paths = [*sorted(self.folder.peers.glob("*" + CARD_SUFFIX)), self.folder.own_card]
        cards = sorted(map(load_card, paths), key=lambda card: card.issued_s)
        return {card.address: card.name for card in cards}


def running_hub(folder: Path, config_path: Path | None) -> RunningHub:
    """The hub of `--dir` or, when it is given, of `--config`. Raises OperatorError, and ConfigError for a wrong file."""
    path = config_path or HubFolder(folder).config
    if not path.exists():
        raise OperatorError(f"{path} is missing: run openmg-hub join first, or give --dir or --config of a hub that was joined")
    config = load_toml(path, HubConfig)
    identity = config.ppdl.identity_dir
    genesis = read_genesis(config.ppdl.genesis_file)
    return RunningHub(path, config, genesis, HubFolder(identity) if identity is not None else None)
