"""Step `contracts`: the npm packages of contracts/ (the Solidity compiler, OpenZeppelin, the EVM node anvil).

Rules: exactly what package-lock.json says; no package's install script is ever run, so the EVM node is the
ready-made binary of its platform package. npm passes over an optional package in silence when it cannot fetch
it, or when it asks for another Node.js than the one here: therefore the step looks for the binary afterwards, and
the lock says of it no `engines` (the program needs no Node.js; Debian's is older than its package asks for).
Without Node.js the step is skipped in one line: the committed artifacts suffice to run, but the chains of the
demo need an anvil from somewhere.

Not here: compiling (contracts/build.py).
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from pathlib import Path

from .commands import LOG_FOLDER, CommandFailed, ask, clean_environment, proxy_in, run_logged
from .console import Step
from .model import Checkout, SetupError, StepSkipped
from .state import hash_files, key_of

MIN_NODE_MAJOR = 18
INPUTS = ("package.json", "package-lock.json", ".npmrc")
INSTALLED_MARK = Path("node_modules") / ".package-lock.json"  # npm writes it last
ANVIL_PREFIX = "node_modules/@foundry-rs/anvil-"
LOG_NAME = "contracts.log"
WHAT_FOR = "the demo's two chains and the contract tests need it"


def key(checkout: Checkout) -> str:
    files = [checkout.contracts / name for name in INPUTS]
    return key_of([hash_files(files, checkout.root), platform.machine()])


def is_in_place(checkout: Checkout) -> bool:
    return (checkout.contracts / INSTALLED_MARK).is_file()


def install(checkout: Checkout, step: Step) -> None:
    """`npm ci` in contracts/. Raises StepSkipped without a usable Node.js, SetupError when npm fails."""
    if not (checkout.contracts / "package-lock.json").is_file():
        raise StepSkipped("contracts/ has no package-lock.json: nothing to install there.")
    env = clean_environment()
    npm = _find_npm(checkout, env)
    log = checkout.venv / LOG_FOLDER / LOG_NAME
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    # Whatever NODE_ENV or the user's npm settings leave out elsewhere: here both kinds are the point.
    command += ["--include=dev", "--include=optional"]
    try:
        run_logged(command, cwd=checkout.contracts, log=log, note=step.note, env=env)
    except CommandFailed as error:
        raise _failure(_cause(error), env, log) from error
    step.outcome = f"installed, {_anvil_in_words(checkout, env, log)}"


def _failure(cause: str, env: dict[str, str], log: Path) -> SetupError:
    proxy = proxy_in(env)
    advice = f"check the network and the proxy in {proxy}" if proxy else "check the network"
    return SetupError(
        f"The npm packages of contracts/ could not be installed ({cause}): {advice}, "
        f"then run this again; all that npm said is in {log}."
    )


def _cause(error: CommandFailed) -> str:
    """npm's own reason: its first `npm error` line that is not a path to a log."""
    for line in error.tail:
        said = re.sub(r"^npm (error|ERR!)\s*", "", line)
        if said != line and said and "log of this run" not in said:
            return said
    return str(error)


def _find_npm(checkout: Checkout, env: dict[str, str]) -> str:
    node, npm = shutil.which("node", path=env.get("PATH")), shutil.which("npm", path=env.get("PATH"))
    if node is None or npm is None:
        missing = "Node.js" if node is None else "npm"
        raise StepSkipped(f"No {missing} here, and {WHAT_FOR}: install nodejs (18 or newer) and npm.")
    version = ask([node, "--version"], cwd=checkout.root, env=env) or ""
    found = re.fullmatch(r"v(\d+)\..*", version)
    if found is None or int(found[1]) < MIN_NODE_MAJOR:
        raise StepSkipped(
            f"Node.js {version or 'at ' + node} is too old, and {WHAT_FOR}: update nodejs to {MIN_NODE_MAJOR} or newer."
        )
    return npm


def _anvil_in_words(checkout: Checkout, env: dict[str, str], log: Path) -> str:
    """What can run the demo's chains. Raises SetupError when the lock has an anvil for this machine and it is not here."""
    package = _anvil_package(checkout, env)
    elsewhere = os.environ.get("OPENMG_ANVIL") or shutil.which("anvil", path=env.get("PATH"))
    if package is not None:
        binary = checkout.contracts / package / "bin" / "anvil"
        if binary.is_file():
            if not os.access(binary, os.X_OK):
                binary.chmod(0o755)
            answer = ask([str(binary), "--version"], cwd=checkout.root, env=env)
            if answer is not None:
                return answer.splitlines()[0].replace(" Version:", "")
        elif not elsewhere:
            raise _failure(f"npm left out {package.removeprefix('node_modules/')}", env, log)
    if elsewhere:
        return f"anvil from {elsewhere}"
    why = "does not run on this system" if package is not None else f"has no npm package for {platform.machine()}"
    return f"but anvil {why}: set OPENMG_ANVIL to one of your own"


def _anvil_package(checkout: Checkout, env: dict[str, str]) -> str | None:
    """The anvil package that npm takes on this machine, as the lock names it, or None when it has none."""
    lock = json.loads((checkout.contracts / "package-lock.json").read_text(encoding="utf-8"))
    machine = ask(["node", "-p", "process.arch"], cwd=checkout.root, env=env)
    fits = [name for name, package in lock["packages"].items() if machine in package.get("cpu", ())]
    return next((name for name in fits if name.startswith(ANVIL_PREFIX)), None)
