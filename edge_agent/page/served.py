"""Which meters one page serves, with which settings, and where it keeps codes and certificate.

Rules: a page of one file is that meter's, and keeps them in its state folder. One of a folder, or of several files, is a
gateway's: a meter goes by its device's name; a file that is wrong, or names what another one has, is said and left out; [page]
may stand in any of the files and says the same wherever it stands; codes and certificate are in its `folder`, or else in `page`
beside the state folders. What is left out has no code and no session. Not here: what is shown of a meter (`inside`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent.claims import Claims
from edge_agent.config import AgentConfig, PageSection
from openmg.config import ConfigError, load_toml

log = logging.getLogger(__name__)
MAX_METERS = 500
"""As many as one process of agents runs (`edge_agent.gateway.MAX_AGENTS`)."""
FOLDER_NAME = "page"


@dataclass(frozen=True)
class Served:
    """What one process serves. meters: by the device's name. folder: of codes and certificate. shared: by several homes, which
    must not learn of each other.
    """

    meters: Mapping[str, AgentConfig]
    section: PageSection
    folder: Path
    shared: bool


def one_meter(config: AgentConfig) -> Served:
    """The page of one meter's owner."""
    return Served({config.device.name: config}, config.page, config.page_dir, shared=False)


def many_meters(paths: Sequence[Path]) -> Served:
    """The page of a gateway; ConfigError when no file can be used, or they do not agree about the page."""
    if len(paths) > MAX_METERS:
        raise ConfigError(f"{len(paths)} configuration files: one page serves 1 to {MAX_METERS} meters")
    found, first_wrong = _usable(paths)
    if not found:
        assert first_wrong is not None  # there is a file
        raise first_wrong
    section = _agreed(found)
    return Served({config.device.name: config for config in found.values()}, section, _folder(found, section), shared=True)


def _usable(paths: Sequence[Path]) -> tuple[dict[Path, AgentConfig], ConfigError | None]:
    """The files that can be used, and what is wrong with the first that cannot."""
    claims, found, first_wrong = Claims(), dict[Path, AgentConfig](), None
    names: dict[str, Path] = {}
    for path in paths:
        try:
            config = load_toml(path, AgentConfig)
            claims.take(path, config)
            owner = names.setdefault(config.device.name, path)
            if owner != path:  # at another broker
                raise ConfigError(f"{path}: device {config.device.name} is that of {owner} already; a page tells them by name")
        except ConfigError as error:
            first_wrong = first_wrong or error
            log.error("%s (this meter is not served; mend the file, then restart the page)", error)
        else:
            found[path] = config
    return found, first_wrong


def _agreed(found: Mapping[Path, AgentConfig]) -> PageSection:
    written = [(path, config.page) for path, config in found.items() if config.page != PageSection()]
    for path, section in written:
        if section != written[0][1]:
            raise ConfigError(
                f"{path}: [page] says otherwise than in {written[0][0]}; one page serves all of them: write it in one file, or"
                " the same in each"
            )
    return written[0][1] if written else PageSection()


def _folder(found: Mapping[Path, AgentConfig], section: PageSection) -> Path:
    if section.folder is not None:
        return section.folder
    beside = {config.device.state_dir.resolve().parent / FOLDER_NAME: path for path, config in found.items()}
    taken = {config.device.state_dir.resolve() for config in found.values()}
    if len(beside) > 1 or not taken.isdisjoint(beside):
        path = list(beside.values())[-1]
        raise ConfigError(
            f"{path}: the state folders of all meters must lie beside each other, and none be called {FOLDER_NAME}, for codes"
            " to be kept there; or write `folder` into [page]"
        )
    return next(iter(beside))
