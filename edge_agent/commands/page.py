"""`openmg-agent page`: serves the owner's page, makes a login code, shows the certificate's fingerprint.

Rules: as in the package; where a page serves several meters a code is for the one that is named; a code goes to stdout alone.
Not here: the page (`edge_agent.page`).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edge_agent.commands.common import CommandError, files_of, print_json, with_files
from edge_agent.config import AgentConfig
from openmg.config import ConfigError, load_toml

if TYPE_CHECKING:
    from edge_agent.page.served import Served


def page(arguments: argparse.Namespace) -> int:
    """One of the actions; `serve` is the one that is not written."""
    served = _served(arguments)
    if arguments.action == "code":
        return _code(served, arguments.device, arguments.json)
    if arguments.action == "fingerprint":
        return _fingerprint(served, arguments.json)
    return _serve(served)


def _served(arguments: argparse.Namespace) -> Served:
    """The meters of the files, with what the command line says of the page instead."""
    from edge_agent.page.served import many_meters, one_meter

    files = files_of(arguments)
    if len(files) == 1 and arguments.config_dir is None:
        served = one_meter(load_toml(files[0], AgentConfig))
    else:
        served = many_meters(files)
    given = {key: getattr(arguments, key) for key in ("listen", "port") if getattr(arguments, key) is not None}
    try:
        return replace(served, section=replace(served.section, **given))
    except ValueError as error:
        raise ConfigError(f"page: {error}") from error


def _serve(served: Served) -> int:
    from edge_agent.memory import use_few_arenas
    from edge_agent.page.certificate import CertificateFileError, files, fingerprint, tls_context
    from edge_agent.page.pages import Pages
    from edge_agent.page.server import PageError, PageServer

    use_few_arenas()
    log = logging.getLogger("edge_agent.page")

    async def until_interrupted() -> None:
        server, stop = PageServer(Pages(served), served.section, tls_context(served)), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await server.start()
        gc.collect()  # the parser of all commands
        meters = f"{len(served.meters)} meters" if served.shared else next(iter(served.meters))
        log.info("page at %s; it shows %s; a login code: openmg-agent page code", server.url, meters)
        if served.section.tls:
            log.info("the certificate's SHA-256 fingerprint is %s", fingerprint(files(served)[0]))
        try:
            await stop.wait()
        finally:
            await server.stop()

    try:
        asyncio.run(until_interrupted())
    except (PageError, CertificateFileError) as error:
        raise CommandError(str(error)) from error
    return 0


def _code(served: Served, device: str | None, as_json: bool) -> int:
    from edge_agent.page.codes import LIFE_SECONDS, CodeFile

    meter = _named(served, device)
    try:
        code = CodeFile(served.folder).issue(meter, time.time())
    except OSError as error:
        raise CommandError(f"{served.folder} takes no code ({error.strerror}); check its owner and free space") from error
    if as_json:
        print_json({"device": meter, "code": code, "seconds": LIFE_SECONDS})
    else:
        print(f"{code}   opens the page of {meter} once, within {LIFE_SECONDS // 60} minutes")
    return 0


def _named(served: Served, device: str | None) -> str:
    """The meter that a code is for: the one that is named, or the page's only one."""
    if device is None and not served.shared:
        return next(iter(served.meters))
    if device is None:
        raise ConfigError("whose code? a page of several meters needs --device NAME, one of their names")
    if device not in served.meters:
        raise ConfigError(f"no file that can be used is of a device {device}; `openmg-agent check` names them")
    return device


def _fingerprint(served: Served, as_json: bool) -> int:
    from edge_agent.page.certificate import CertificateFileError, files, fingerprint

    try:
        shown = fingerprint(files(served)[0])
    except CertificateFileError as error:
        raise CommandError(str(error)) from error
    if as_json:
        print_json({"sha256": shown})
    else:
        print(shown)
    return 0


def add_commands(add: Any) -> None:
    """`page`."""
    text = "Serve the owner's page, make a login code for it, or show its certificate's fingerprint."
    tool = add("page", page, text, "page code --config agent.toml", parent=with_files())
    help_text = "code: a one-time login code; fingerprint: of the page's certificate; nothing: serve the page"
    tool.add_argument("action", nargs="?", choices=("code", "fingerprint"), help=help_text)
    tool.add_argument("--device", metavar="NAME", help="whose code; needed with --config-dir, or several --config")
    tool.add_argument("--listen", metavar="ADDRESS", help="instead of [page] listen; default: 127.0.0.1")
    tool.add_argument("--port", type=int, help="instead of [page] port; default: 8480")
    tool.add_argument("--json", action="store_true", help="one JSON object for code and fingerprint")
