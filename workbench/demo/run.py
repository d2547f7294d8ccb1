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
from http.client import HTTPException
from pathlib import Path
from typing import Any

from edge_agent.market.planner import PURCHASE_DELAY_SLOTS
from hub.chain.anvil import AnvilOptions, answers, anvil_command
from hub.chain.client import EvmClient
from hub.chain.deployment import Deployment
from hub.chain.errors import ChainError
from openmg.clock import VirtualClock, slot_of, slot_start
from openmg.config import CONFIG_EXIT_CODE
from openmg.signing import address_of
from openmg.zk.backend import BackendError, get_backend
from openmg.zk.circuits.registry import DEMO_CIRCUITS, PRIVATE_CIRCUITS
from openmg.zk.keys import KeysError, ensure_keys
from workbench.demo import chains
from workbench.demo.checks import MIN_CHECKPOINTS, MIN_LEARNING_ROUNDS, shortfalls, trades
from workbench.demo.genesis import make_demo_genesis
from workbench.demo.needs import WrongData, listens, require_broker, require_data
from workbench.demo.operators import provision_hubs
from workbench.demo.options import DemoError, DemoOptions
from workbench.demo.report import ChainFigures, agent_counts, build_report, hub_json
from workbench.demo.signals import Interrupted, Signals
from workbench.demo.site import (
    PLASMA_CHAIN_ID,
    ROOT_CHAIN_ID,
    make_site,
    write_agent_configs,
    write_hub_configs,
    write_sim_config,
)
from workbench.demo.story import ending, status_line, time_of_day
from workbench.demo.waiting import TICK_SECONDS, Waiting, in_background
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
TRADE_SECONDS = 40.0
WALLETS_SECONDS = 20.0
"""The last slot is minted when its sum was agreed and relayed; what cannot be settled by then stays due."""
PRIVATE_TRADE_SLOTS = 6
"""The same on the private market: a call leaves within a slot, the purchase for the last slot comes two slots after it."""
LAST_READINGS_SECONDS = 10.0
"""A meter is polled several times a slot, so its last slot closes within a second or two of the boundary."""
REPLY_ERRORS = (OSError, HTTPException, ValueError)
"""What asking a hub may raise while it starts or stops: no connection, half an answer, no JSON."""
AT_END_SECONDS = 3.0
"""Hubs tell their heights once a second: so long must relay and hubs agree before the chain is taken to be at rest."""


def run_demo(options: DemoOptions) -> int:
    """Run the demo; the exit code.

    0 when it showed everything, 1 when not or on an error, 2 for unusable data, 130 when interrupted early.
    """
    progress, signals = Progress(), Signals()
    with signals.handled():
        try:
            return Demo(options, progress, signals).run()
        except (DemoError, ProcessFailed, ChainError, KeysError, BackendError) as error:
            progress.step(f"stopped: {error}")
            return CONFIG_EXIT_CODE if isinstance(error, WrongData) else 1
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            progress.step(f"stopped: {where}{error.strerror or error}; see whether the disk is full or may not be written to")
            return 1
        except Interrupted:
            progress.step("interrupted")
            return 130


class Demo:
    """One run."""

    def __init__(self, options: DemoOptions, progress: Progress, signals: Signals) -> None:
        self.options = options
        self.progress = progress
        self.signals = signals
        try:
            self.backend = get_backend(options.prover).name
        except BackendError as error:
            raise DemoError(f"--prover {options.prover}: {error}") from error
        if options.mqtt is not None:
            require_broker(options.mqtt)
        folder = options.state or Path(tempfile.mkdtemp(prefix="openmg-demo-"))
        self.site = make_site(options, folder.absolute())
        self.supervisor = Supervisor(self.site.folder / "logs")
        self.waiting = Waiting(self.supervisor, progress)
        self.deployment: Deployment | None = None
        self.clock = VirtualClock.real()
        self.first_slot = slot_of(options.start)
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
        except (ChainError, OSError):
            self._name_the_dead()
            raise
        finally:
            self.signals.ignore()
            self._sampling.set()
            self._stop_all()
            self.site.reservation.close()

    def _name_the_dead(self) -> None:
        """ProcessFailed when a child has ended: it is the reason why something did not answer, and says more."""
        for _ in range(10):
            self.supervisor.check()
            time.sleep(0.1)  # a connection ends before its process has

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
        self.clock = VirtualClock(self.options.start, w0, self.options.speed)
        write_sim_config(site, w0)
        if self.options.data is not None:
            require_data(site)
        sim = self.supervisor.start(
            "sim",
            self._tool("firmware_sim", "--config", site.sim_config, "--history", site.folder / "history", "--serve"),
        )
        self._start_chains()
        keys = in_background(self._ensure_keys)
        self.waiting.until("the homes' past", lambda: "serving " in sim.tail(), START_SECONDS)
        genesis = make_demo_genesis(site)
        say("35 days of past and the PPDL genesis are made")
        self.waiting.result("proving keys", keys)
        write_agent_configs(site, w0)
        write_hub_configs(site, w0)
        provision_hubs(site, genesis)
        deployed = in_background(chains.deploy, site, genesis, w0)
        self._import_past()
        self.deployment, self.first_slot = self.waiting.result("contracts", deployed)
        self._write_endpoints()
        say("contracts are deployed, meters registered, stores filled")

    def _ensure_keys(self) -> None:
        for circuit in (*DEMO_CIRCUITS, *(PRIVATE_CIRCUITS if self.options.private else ())):
            ensure_keys(circuit, None, get_backend(self.backend), None)

    def _start_chains(self) -> None:
        for name, chain_id, port, free in (
            ("anvil-root", ROOT_CHAIN_ID, self.site.ports.root, False),
            ("anvil-plasma", PLASMA_CHAIN_ID, self.site.ports.plasma, True),
        ):
            self.supervisor.start(name, anvil_command(AnvilOptions(chain_id, port, free_gas=free)))
            url = f"http://{HOST}:{port}"
            self.waiting.until(name, lambda url=url, chain_id=chain_id: answers(url, chain_id), START_SECONDS)  # type: ignore[misc]

    def _import_past(self) -> None:
        """`openmg-agent import` for every meter, two at a time."""
        waiting = [*(home.name for home in self.site.homes), *self.site.feeders]
        running: list[str] = []
        while waiting or running:
            self.supervisor.check()
            while waiting and len(running) < 2:
                name = waiting.pop(0)
                file = self.site.folder / "history" / f"{name}.csv"
                command = self._tool("edge_agent", "import", file, "--config", self.site.agent_config(name))
                self.supervisor.start(f"import-{name}", command, short_lived=True)
                running.append(name)
            for name in list(running):
                child = self.supervisor.children[f"import-{name}"]
                if child.process.poll() is not None:
                    if child.process.returncode != 0:
                        raise DemoError(f"the past of {name.removeprefix('import-')} was not imported: {child.end()}")
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
        deposits = in_background(chains.deposit_all, site, self.deployment.root)
        if self.options.mqtt is None:
            start("broker", self._tool("hub", "broker", "--port", str(site.ports.mqtt)))
            self.waiting.until("the broker", lambda: listens(HOST, site.ports.mqtt), START_SECONDS)
        for name in site.hub_names:
            start(name, self._tool("hub", "run", "--config", site.hub_config(name)))
        self.waiting.until("the hubs", self._hub_answers, START_SECONDS)
        self.waiting.result("deposits", deposits)
        environment = {"OPENBLAS_NUM_THREADS": "1", "OPENMG_PLAIN_INTEGERS": str(int(self.backend == "native"))}
        for name in [*(home.name for home in site.homes), *site.feeders]:
            start(name, self._tool("edge_agent", "run", "--config", site.agent_config(name)), environment)
        threading.Thread(target=self._sample, name="sampling", daemon=True).start()
        self.waiting.until("PETH on the plasma chain", self._peth_arrived, START_SECONDS)
        self.waiting.result("the escrow", in_background(chains.fund_contracts, site, self.deployment.plasma))
        self.progress.step(f"{len(self.supervisor.children)} processes run; deposits became PETH")
        if not self.options.headless:
            self.progress.step(f"console: {site.console_url}")
        patience = START_SECONDS + LEAD_SECONDS_PER_HOME * len(site.homes)
        self.waiting.until("every meter and hub", self._all_present, patience)
        late = time.time() - self.clock.w0
        if late > 0:  # some meter may have missed a slot: count whole ones only
            self.first_slot = max(self.first_slot, self.clock.slot() + 1)
            when = time_of_day(self.first_slot)
            self.progress.step(f"the machine is slow: the clock began {late:.0f} s ago; slots are counted from {when}")
        until_first = self.clock.wall_until(slot_start(self.first_slot))
        self.waiting.until("the first slot", lambda: self.clock.slot() >= self.first_slot, START_SECONDS + until_first)

    def _sample(self) -> None:
        """Memory and CPU of every child, once a second, until the end."""
        while not self._sampling.wait(1.0):
            with contextlib.suppress(RuntimeError):  # a child was added meanwhile; the next second counts it
                self.supervisor.sample()

    def _hub_answers(self) -> bool:
        try:
            return bool(hub_json(self.site, "/healthz")["status"] == "ok")
        except REPLY_ERRORS:
            return False

    def _all_present(self) -> bool:
        """Whether the first hub has heard of every meter and hub: before that they would not understand a signal to drain."""
        hub, meters = self._hub_report(), len(self.site.homes) + len(self.site.feeders)
        return bool(hub) and hub["online"] == meters and len(hub["ppdl"]["peer_heights"]) == self.options.validators

    def _peth_arrived(self) -> bool:
        client = EvmClient(self.site.plasma_url)
        accounts = [address_of(self.site.utility_key), *(owner.account for owner in self.site.owners.values())]
        return all(client.balance(account) > 0 for account in accounts)

    # Slots

    def _slots(self) -> bool:
        """Let the slots pass; returns whether the user ended an endless run."""
        assert self.deployment is not None
        first, asked = self.first_slot, False
        try:
            while self.options.endless or self.clock.slot() < first + self.options.slots:
                self.supervisor.check()
                passed = self.clock.slot() - first
                if not asked and passed >= min(INFERENCE_AFTER_SLOTS, max(0, self.options.slots - 1)):
                    self._ask_inference()
                    asked = True
                goal = 0 if self.options.endless else self.options.slots
                self.progress.live(status_line(first, passed, goal, self._hub_report()), once=f"slot {passed}")
                time.sleep(TICK_SECONDS)
            if not asked:
                self._ask_inference()
        except Interrupted as interruption:
            if not self.options.endless or interruption.hung_up:
                raise
            self.progress.step("ending: what is under way is finished; Ctrl-C again stops at once")
            return True
        return False

    def _ask_inference(self) -> None:
        assert self.deployment is not None
        for microgrid in range(1, self.options.microgrids + 1):
            chains.request_inference(self.site, self.deployment.plasma, microgrid)

    def _hub_report(self) -> dict[str, Any]:
        try:
            return hub_json(self.site, "/api/report")
        except REPLY_ERRORS:
            return {}

    # The end

    def _drain(self, interrupted: bool) -> None:
        """Meters stop counting; wait until what is under way is done, then let the relay reach the chain's end.

        A user who interrupts waits for readings and events only, not for everything that the demo means to show.
        """
        assert self.deployment is not None
        if not self.options.endless:
            self.waiting.at_most(LAST_READINGS_SECONDS, "the last readings", self._all_slots_stored)
            if not (interrupted or self.options.private):
                self.waiting.at_most(TRADE_SECONDS, "trade, which a slow machine is late with", self._traded)
        self._signal("agent-", "feeder-")
        figures = ChainFigures(self.site, self.deployment)
        if interrupted:
            self.waiting.at_most(INTERRUPTED_SECONDS, "readings and events", self._delivered)
        else:
            done = DRAIN_SECONDS[self.backend]
            self.waiting.at_most(done, "readings, transfers and answers", lambda: self._settled(figures))
            self.waiting.at_most(WALLETS_SECONDS, "the wallets", self._wallets_idle)
            if self.options.private:
                patience = PRIVATE_TRADE_SLOTS * self.options.slot_seconds
                self.waiting.at_most(patience, "the private market", self._private_market_idle)
        self._signal("hub-")
        self.waiting.at_most(RELAY_SECONDS, "the relay", lambda: self._relayed(figures))

    def _all_slots_stored(self) -> bool:
        last = self.first_slot + self.options.slots - 1
        return all(agent_counts(self.site, home.name).last_slot >= last for home in self.site.homes)

    def _traded(self) -> bool:
        """Whether the public market has shown what it is to show. Meters count on meanwhile, so there is more to trade."""
        assert self.deployment is not None
        market = ChainFigures(self.site, self.deployment).market.figures()
        return not list(trades(market, self.options.slots, self.options.microgrids))

    def _wallets_idle(self) -> bool:
        return not any(agent_counts(self.site, home.name).unsettled for home in self.site.homes)

    def _private_market_idle(self) -> bool:
        """Every slot is minted, every order of the run's slots was made, and every batch is cleared and settled."""
        clearing: dict[str, int] = self._hub_report().get("clearing") or {"waiting": 1}
        ordered = self.clock.slot() > self.first_slot + self.options.slots + PURCHASE_DELAY_SLOTS
        traded = not any(agent_counts(self.site, home.name).private.untraded for home in self.site.homes)
        return clearing["waiting"] == 0 and ordered and traded

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
        paid = (agent_counts(self.site, home.name).paid for home in self.site.homes)
        return (
            ppdl["rounds"] >= MIN_LEARNING_ROUNDS
            and ppdl["loss_first"] is not None
            and ppdl["loss_last"] is not None
            and all(paid)
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
        hub = self._hub_report()
        if not hub:
            raise DemoError(f"{self.site.hub_names[0]} does not answer any more; see {self.supervisor.log_dir}")
        slots = max(0, self.clock.slot() - self.first_slot) if self.options.endless else self.options.slots
        return build_report(self.site, self.deployment, hub, self.supervisor, slots, self.progress.seconds)

    def _finish(self, report: dict[str, Any], interrupted: bool) -> int:
        if self.options.report is not None:
            self.options.report.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        for sentence in ending(report):
            self.progress.step(sentence)
        where = f"logs in {self.supervisor.log_dir}" + (f", report in {self.options.report}" if self.options.report else "")
        if interrupted:
            self.progress.step(f"ended by the user; {where}")
            return 0
        missing = shortfalls(report, len(self.site.homes), self.options.microgrids)
        for sentence in missing:
            self.progress.step(f"not shown: {sentence}")
        verdict = f"{len(missing)} expectations were not met" if missing else "everything was shown"
        self.progress.step(f"{verdict}; {where}")
        return 1 if missing else 0
