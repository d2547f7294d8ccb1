"""The demo from start to end: set-up, processes, slots, drain, report.

Theory of operation. Everything that can be prepared is prepared first (past of the homes, PPDL genesis, contracts), then
the virtual clock is set to begin when all agents can be up, and the programs are started as children of this one. While
slots pass, children are watched and measured. At the end meters stop counting, everything under way is finished (readings
acknowledged, transfers made, answers delivered), then the PPDL chain pauses so that the relay can reach its end, and the
report is counted. Whatever happens, all children are stopped.
Not here: what any program does.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hub.chain.anvil import AnvilOptions, answers, anvil_command
from hub.chain.client import EvmClient
from hub.chain.deployment import Deployment
from hub.chain.errors import ChainError
from hub.ppdl.store import initialise_store
from openmg.clock import VirtualClock, slot_of
from openmg.signing import address_of
from openmg.zk.backend import BackendError, get_backend
from openmg.zk.keys import KeysError, ensure_keys
from workbench.demo import chains
from workbench.demo.checks import MIN_CHECKPOINTS, MIN_LEARNING_ROUNDS, shortfalls
from workbench.demo.genesis import make_demo_genesis
from workbench.demo.options import DEFAULT_START, DemoError, DemoOptions
from workbench.demo.report import ChainFigures, agent_counts, build_report, hub_json
from workbench.demo.site import (
    PLASMA_CHAIN_ID,
    ROOT_CHAIN_ID,
    make_site,
    write_agent_configs,
    write_hub_configs,
    write_sim_config,
)
from workbench.ports import HOST
from workbench.progress import Progress
from workbench.supervisor import ProcessFailed, Supervisor

START_SECONDS = 60.0
LEAD_SECONDS = 14.0
LEAD_SECONDS_PER_HOME = 1.1
"""How far ahead of the start the clock is set: contracts, hubs and one agent after the other on two cores."""
INFERENCE_AFTER_SLOTS = 3
DRAIN_SECONDS = {"native": 120.0, "portable": 300.0}
INTERRUPTED_SECONDS = 15.0
RELAY_SECONDS = 60.0
LAST_READINGS_SECONDS = 10.0
"""A meter is polled several times a slot, so its last slot closes within a second or two of the boundary."""
TICK_SECONDS = 0.5
AT_END_SECONDS = 3.0
"""Hubs tell their heights once a second: so long must relay and hubs agree before the chain is taken to be at rest."""


class Interrupted(Exception):
    """The user asked to stop."""


def run_demo(options: DemoOptions) -> int:
    """Run the demo; the exit code: 0 when it showed everything, 1 when not or on an error, 130 when interrupted early."""
    progress = Progress()
    try:
        with _interruptible():
            return Demo(options, progress).run()
    except (DemoError, ProcessFailed, ChainError, KeysError, BackendError) as error:
        progress.step(f"stopped: {error}")
        return 1
    except Interrupted:
        progress.step("interrupted")
        return 130


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGINT raise Interrupted in the main thread, once; a second one does not disturb the clean-up."""

    def interrupt(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Interrupted

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Demo:
    """One run."""

    def __init__(self, options: DemoOptions, progress: Progress) -> None:
        self.options = options
        self.progress = progress
        try:
            self.backend = get_backend(options.prover).name
        except BackendError as error:
            raise DemoError(f"--prover {options.prover}: {error}") from error
        folder = options.state or Path(tempfile.mkdtemp(prefix="openmg-demo-"))
        folder.mkdir(parents=True, exist_ok=True)
        self.site = make_site(options, folder.resolve())
        self.supervisor = Supervisor(self.site.folder / "logs")
        self._workers = ThreadPoolExecutor(2, thread_name_prefix="demo")
        self.deployment: Deployment | None = None
        self.clock = VirtualClock.real()
        self._sampling = threading.Event()
        self._at_end = 0

    def run(self) -> int:
        """Everything; children are stopped in any case."""
        try:
            self._set_up()
            self._start_programs()
            interrupted = self._slots()
            self._drain(interrupted)
            report = self._report()
            return self._finish(report, interrupted)
        finally:
            self._sampling.set()
            self._stop_all()
            self._workers.shutdown(wait=False, cancel_futures=True)

    def _stop_all(self) -> None:
        """Agents first, then hubs, then what they stand on, so that nobody misses anybody."""
        for prefixes in (("agent-", "feeder-", "import-"), ("hub-",)):
            self.supervisor.stop([name for name in self.supervisor.children if name.startswith(prefixes)])
        self.supervisor.stop()

    # Set-up

    def _set_up(self) -> None:
        site, say = self.site, self.progress.step
        say(f"{len(site.homes)} homes, {self.options.validators} hubs, {self.backend} prover; state in {site.folder}")
        w0 = time.time() + LEAD_SECONDS + LEAD_SECONDS_PER_HOME * len(site.homes)
        self.clock = VirtualClock(DEFAULT_START, w0, self.options.speed)
        write_sim_config(site, w0)
        sim = self.supervisor.start(
            "sim",
            self._tool("firmware_sim", "--config", site.sim_config, "--history", site.folder / "history", "--serve"),
        )
        self._start_chains()
        keys = self._workers.submit(ensure_keys, "transfer", None, get_backend(self.backend), None)
        self._wait_for("the homes' past", lambda: "serving " in sim.tail())
        genesis = make_demo_genesis(site)
        say("35 days of past and the PPDL genesis are made")
        self._result(keys, "proving keys")
        write_agent_configs(site, w0)
        write_hub_configs(site, w0)
        for name in site.hub_names:
            state = site.hub_folder(name) / "state"
            state.mkdir(mode=0o700)
            initialise_store(state / "ppdl.sqlite", genesis)
        deployed = self._workers.submit(chains.deploy, site, genesis, w0)
        self._import_past()
        self.deployment = self._result(deployed, "contracts")
        self._write_endpoints()
        say("contracts are deployed, meters registered, stores filled")

    def _start_chains(self) -> None:
        for name, chain_id, port, free in (
            ("anvil-root", ROOT_CHAIN_ID, self.site.ports.root, False),
            ("anvil-plasma", PLASMA_CHAIN_ID, self.site.ports.plasma, True),
        ):
            self.supervisor.start(name, anvil_command(AnvilOptions(chain_id, port, free_gas=free)))
            url = f"http://{HOST}:{port}"
            self._wait_for(name, lambda url=url, chain_id=chain_id: answers(url, chain_id))  # type: ignore[misc]

    def _import_past(self) -> None:
        """`openmg-agent import` for every meter, two at a time."""
        waiting = [*(home.name for home in self.site.homes), *self.site.feeders]
        running: list[str] = []
        while waiting or running:
            while waiting and len(running) < 2:
                name = waiting.pop(0)
                file = self.site.folder / "history" / f"{name}.csv"
                self.supervisor.start(
                    f"import-{name}", self._tool("edge_agent", "import", file, "--config", self.site.agent_config(name))
                )
                running.append(name)
            for name in list(running):
                child = self.supervisor.children[f"import-{name}"]
                if child.process.poll() is not None:
                    if child.process.returncode != 0:
                        raise DemoError(f"the past of {name} was not imported: {child.tail()}")
                    self.supervisor.stop([child.name])
                    running.remove(name)
            time.sleep(0.02)

    def _write_endpoints(self) -> None:
        assert self.deployment is not None
        ports = self.site.ports
        endpoints = {
            "console": self.site.console_url,
            "mqtt": self.site.mqtt_url,
            "root": {"url": self.site.root_url},
            "plasma": {"url": self.site.plasma_url},
            "hubs": {name: f"{HOST}:{port}" for name, port in zip(self.site.hub_names, ports.hubs, strict=True)},
            "meters": {name: f"{HOST}:{port}" for name, port in ports.meters.items()},
        }
        deployed = self.deployment.to_json()
        for name in ("root", "plasma"):
            endpoints[name] |= deployed[name]
        self.site.endpoints_file.write_text(json.dumps(endpoints, indent=2) + "\n", encoding="utf-8")

    # Programs

    def _tool(self, package: str, *arguments: str | Path) -> list[str | Path]:
        return [sys.executable, "-m", f"{package}.cli", *arguments]

    def _start_programs(self) -> None:
        assert self.deployment is not None
        site, start = self.site, self.supervisor.start
        deposits = self._workers.submit(chains.deposit_all, site, self.deployment.root)
        if self.options.mqtt is None:
            start("broker", self._tool("hub", "broker", "--port", str(site.ports.mqtt)))
        for name in site.hub_names:
            start(name, self._tool("hub", "run", "--config", site.hub_config(name)))
        self._wait_for("the hubs", self._hub_answers)
        self._result(deposits, "deposits")
        environment = {"OPENBLAS_NUM_THREADS": "1"}
        for name in [*(home.name for home in site.homes), *site.feeders]:
            start(name, self._tool("edge_agent", "run", "--config", site.agent_config(name)), environment)
        threading.Thread(target=self._sample, name="sampling", daemon=True).start()
        self._wait_for("PETH on the plasma chain", self._peth_arrived)
        self._result(self._workers.submit(chains.fund_contracts, site, self.deployment.plasma), "escrow")
        self.progress.step(f"{len(self.supervisor.children)} processes run; deposits became PETH")
        if not self.options.headless:
            self.progress.step(f"console: {site.console_url}")
        late = time.time() - self.clock.w0
        if late > 0:
            self.progress.step(f"the machine is slow: the clock began {late:.0f} s before everything was up")
        self._wait_for("the first slot", lambda: self.clock.now() >= DEFAULT_START, START_SECONDS + abs(late))

    def _sample(self) -> None:
        """Memory and CPU of every child, once a second, until the end."""
        while not self._sampling.wait(1.0):
            with contextlib.suppress(RuntimeError):  # a child was added meanwhile; the next second counts it
                self.supervisor.sample()

    def _hub_answers(self) -> bool:
        try:
            return bool(hub_json(self.site, "/healthz")["status"] == "ok")
        except OSError:
            return False

    def _peth_arrived(self) -> bool:
        client = EvmClient(self.site.plasma_url)
        accounts = [address_of(self.site.utility_key), *(owner.account for owner in self.site.owners.values())]
        return all(client.balance(account) > 0 for account in accounts)

    # Slots

    def _slots(self) -> bool:
        """Let the slots pass; returns whether the user ended an endless run."""
        assert self.deployment is not None
        first, asked = slot_of(DEFAULT_START), False
        try:
            while self.options.endless or self.clock.slot() < first + self.options.slots:
                self.supervisor.check()
                passed = self.clock.slot() - first
                if not asked and passed >= min(INFERENCE_AFTER_SLOTS, max(0, self.options.slots - 1)):
                    self._ask_inference()
                    asked = True
                self.progress.live(self._status_line(passed))
                time.sleep(TICK_SECONDS)
            if not asked:
                self._ask_inference()
        except Interrupted:
            if not self.options.endless:
                raise
            return True
        return False

    def _ask_inference(self) -> None:
        assert self.deployment is not None
        for microgrid in range(1, self.options.microgrids + 1):
            chains.request_inference(self.site, self.deployment.plasma, microgrid)

    def _status_line(self, slots: int) -> str:
        goal = "" if self.options.endless else f"/{self.options.slots}"
        hub = self._hub_report()
        if not hub:
            return f"slot {slots}{goal}"
        ppdl, readings = hub["ppdl"], hub["readings"]
        loss = "" if ppdl["loss_last"] is None else f", loss {ppdl['loss_first']:.4f} -> {ppdl['loss_last']:.4f}"
        return (
            f"slot {slots}{goal}: {readings['stored']} readings, {readings['groups_opened']} sums agreed, "
            f"PPDL height {ppdl['height']}, {ppdl['rounds']} learning rounds{loss}"
        )

    def _hub_report(self) -> dict[str, Any]:
        try:
            return hub_json(self.site, "/api/report")
        except OSError:
            return {}

    # The end

    def _drain(self, interrupted: bool) -> None:
        """Meters stop counting; wait until what is under way is done, then let the relay reach the chain's end.

        A user who interrupts waits for readings and events only, not for everything that the demo means to show.
        """
        assert self.deployment is not None
        if not self.options.endless:
            self._wait_quietly("the last readings", self._all_slots_stored, LAST_READINGS_SECONDS)
        self._signal("agent-", "feeder-")
        figures = ChainFigures(self.site, self.deployment)
        if interrupted:
            self._wait_quietly("readings and events", self._delivered, INTERRUPTED_SECONDS)
        else:
            done = DRAIN_SECONDS[self.backend]
            self._wait_quietly("readings, transfers and answers", lambda: self._settled(figures), done)
        self._signal("hub-")
        self._wait_quietly("the relay", lambda: self._relayed(figures), RELAY_SECONDS)

    def _all_slots_stored(self) -> bool:
        return all(agent_counts(self.site, home.name).stored >= self.options.slots for home in self.site.homes)

    def _delivered(self) -> bool:
        """Every reading is acknowledged and every agreed event stands on the plasma chain."""
        hub = self._hub_report()
        counts = [agent_counts(self.site, home.name) for home in self.site.homes]
        return bool(hub) and hub["waiting_events"] == 0 and all(item.acked == item.stored for item in counts)

    def _settled(self, figures: ChainFigures) -> bool:
        """Besides, everything was done that the demo means to show."""
        hub = self._hub_report()
        if not hub or not self._delivered():
            return False
        inference, ppdl = figures.inference(), hub["ppdl"]
        return (
            ppdl["rounds"] >= MIN_LEARNING_ROUNDS
            and ppdl["loss_first"] is not None
            and ppdl["loss_last"] is not None
            and figures.transfers() >= len(self.site.homes)
            and inference["answered"] == inference["requests"] > 0
            and figures.checkpoints() >= MIN_CHECKPOINTS
        )

    def _relayed(self, figures: ChainFigures) -> bool:
        hub = self._hub_report()
        heights = set(hub["ppdl"]["peer_heights"].values()) if hub else set()
        self._at_end = self._at_end + 1 if heights == {figures.relay_height()} else 0
        return self._at_end * TICK_SECONDS >= AT_END_SECONDS

    def _signal(self, *prefixes: str) -> None:
        """SIGUSR1: agents stop metering, hubs make no more blocks."""
        for child in self.supervisor.children.values():
            if child.name.startswith(prefixes) and child.process.poll() is None:
                child.process.send_signal(signal.SIGUSR1)

    def _report(self) -> dict[str, Any]:
        assert self.deployment is not None
        self.supervisor.sample()
        hub = hub_json(self.site, "/api/report")
        slots = max(0, self.clock.slot() - slot_of(DEFAULT_START)) if self.options.endless else self.options.slots
        return build_report(self.site, self.deployment, hub, self.supervisor, slots, self.progress.seconds)

    def _finish(self, report: dict[str, Any], interrupted: bool) -> int:
        if self.options.report is not None:
            self.options.report.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        missing = shortfalls(report, len(self.site.homes), self.options.microgrids)
        energy, ppdl, zk = report["energy_wh"], report["ppdl"], report["zk"]
        self.progress.step(
            f"{report['readings']['acked']} readings acknowledged, {report['readings']['lost']} lost; "
            f"{energy['minted']} Wh minted, {energy['sold']} sold, {energy['bought']} bought, {energy['burned']} burned"
        )
        self.progress.step(
            f"{ppdl['rounds']} learning rounds, loss {ppdl['loss_first']} -> {ppdl['loss_last']}; {zk['transfers']} private "
            f"transfers ({zk['prove_seconds_median']} s each, {zk['backend']}); {report['market']['swaps']} swaps; relay "
            f"height {report['relay']['height']}; {report['plasma']['checkpoints']} checkpoints"
        )
        if interrupted:
            self.progress.step("ended by the user")
            return 0
        for sentence in missing:
            self.progress.step(f"not shown: {sentence}")
        self.progress.step("everything was shown" if not missing else f"{len(missing)} expectations were not met")
        return 1 if missing else 0

    # Waiting

    def _wait_for(self, what: str, ready: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Wait until `ready`; DemoError after `seconds`, ProcessFailed when a child dies meanwhile."""
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                raise DemoError(f"{what} did not come within {seconds:.0f} s; see the logs in {self.supervisor.log_dir}")
            self._check_children()
            self.progress.live(f"waiting for {what}")
            time.sleep(0.1)

    def _wait_quietly(self, what: str, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until `ready` or the time is over; what is missing then shows in the report."""
        deadline = time.monotonic() + seconds
        while not ready() and time.monotonic() < deadline:
            self.supervisor.check()
            self.progress.live(f"finishing: {what}")
            time.sleep(TICK_SECONDS)

    def _check_children(self) -> None:
        """Only long-lived children must be running; the tools of the set-up end by themselves."""
        for child in self.supervisor.children.values():
            if not child.name.startswith("import-") and child.process.poll() is not None:
                self.supervisor.check()

    def _result(self, future: Future[Any], what: str) -> Any:
        """The result of a worker, with progress while it takes long."""
        while not future.done():
            self.progress.live(f"waiting for {what}")
            time.sleep(0.05)
        return future.result()
