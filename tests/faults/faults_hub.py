"""A hub's ingest as a process of its own, so that it can be killed: service, database, the meters' keys as a replica has them.

Run with a JSON file: url, database, t0, w0, speed, chain_id, operator_key, first_slot, devices (name, role, key file), tls, and
lossy (whether what was not synced is noted down). It says `ready` on standard output when its service has started, and its
statistics at the orderly end.
Not here: the service (`hub.ingest`), which is the hub's own.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any

from slot_reports import ReportOpener

from hub.ingest.events import IngestEvents
from hub.ingest.registry import Device, Registry
from hub.ingest.service import IngestService
from hub.ingest.status import IngestSettings
from hub.ingest.store import IngestStore
from openmg.clock import VirtualClock
from openmg.identity import DeviceKey, load_or_create_key
from openmg.mqtt import MqttAddress
from openmg.mqtt_tls import TlsFiles
from workbench.ppdl_soak.disk import LossyDisk


async def serve(table: dict[str, Any]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    keys = {name: DeviceKey(load_or_create_key(Path(file))) for name, _role, file in table["devices"]}
    registry = Registry(Device(name, keys[name].address, 1, role) for name, role, _file in table["devices"])
    settings = IngestSettings(
        MqttAddress.parse(table["url"]), "hub-1", table["chain_id"], bytes.fromhex(table["operator_key"]), table["first_slot"],
        tls=None if table["tls"] is None else TlsFiles(*map(Path, table["tls"])),
    )  # fmt: skip
    store = IngestStore(Path(table["database"]))
    clock = VirtualClock(table["t0"], table["w0"], table["speed"])
    opener = ReportOpener(keys.values(), table["chain_id"])
    service = IngestService(settings, registry, store, clock, IngestEvents(), opener)
    await service.start()
    print("ready", flush=True)
    await stop.wait()
    await service.stop()
    print(json.dumps(dataclasses.asdict(service.stats())), flush=True)
    store.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    said = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if said["lossy"]:
        LossyDisk().install()
    asyncio.run(serve(said))
