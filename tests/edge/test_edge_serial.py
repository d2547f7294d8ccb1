"""Serial lines over pseudo-terminals: our simulator, and pymodbus's own RTU server as an independent peer."""

from __future__ import annotations

import asyncio
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from edge_kit import Processes, until, wait_for
from serial_kit import joined_lines, line_to

from edge_agent.modbus.errors import LinkDown, Refused
from edge_agent.modbus.link import ModbusLink
from edge_agent.modbus.reader import MeterReader
from edge_agent.modbus.target import BusTarget
from firmware_sim.server import MeterServer
from openmg.profiles.profile import load_profile

PEER = """
import asyncio, sys
from pymodbus.server import StartAsyncSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice
from pymodbus.framer import FramerType

async def main():
    floats = [230.5, -1234.5, 60.01]
    device = SimDevice(7, simdata=[SimData(0, values=floats, datatype=DataType.FLOAT32)])
    print("serving", flush=True)
    await StartAsyncSerialServer(device, framer=FramerType.RTU, port=sys.argv[1], baudrate=9600)

asyncio.run(main())
"""


async def test_the_server_of_another_project_is_read_over_a_cable(tmp_path: Path, processes: Processes) -> None:
    ours, theirs = joined_lines(processes, tmp_path)
    peer = processes.start(sys.executable, "-c", PEER, str(theirs), stdout=subprocess.PIPE)
    assert peer.stdout is not None and peer.stdout.readline() == "serving\n"
    link = ModbusLink(BusTarget(transport="rtu", serial=str(ours), timeout_s=0.5, drain_s=0.1))
    link.open()
    registers: tuple[int, ...] = ()
    for _ in range(40):  # its port may take a moment to open
        try:
            registers = await link.read(7, 3, 0, 6)
            break
        except LinkDown:
            await asyncio.sleep(0.1)
    assert struct.unpack(">3f", struct.pack(">6H", *registers)) == pytest.approx((230.5, -1234.5, 60.01))
    with pytest.raises(Refused, match="exception 2"):
        await link.read(7, 3, 4000, 2)
    assert await link.read(7, 3, 2, 2) == registers[2:4]
    await link.close()


async def test_a_simulated_meter_is_read_over_a_serial_line(
    tmp_path: Path, processes: Processes, make_meter: Callable[..., MeterServer]
) -> None:
    server = make_meter(rtu=True)
    await server.start()
    path = await asyncio.to_thread(line_to, processes, server.port, tmp_path)
    profile = load_profile("sdm630")
    link = ModbusLink(BusTarget(transport="rtu", serial=str(path), timeout_s=0.3, drain_s=0.4))
    link.open()
    reader = MeterReader(link.unit(1), profile)
    reading = await reader.read(profile.points)
    assert reading.number("power_total_w") == 1200 and not reading.rejected
    server.faults.delay_s, server.faults.delay_answers = 0.45, 1
    with pytest.raises(LinkDown, match="did not answer within 0.3 s"):
        await reader.read_group("fast")
    for _ in range(3):
        assert (await reader.read_group("fast")).number("power_total_w") == 1200
        assert (await reader.read_group("slow")).number("voltage_l1_v") == pytest.approx(220, abs=20)
    await link.close()
    await server.stop()


async def test_an_adapter_that_is_pulled_out_is_found_again(
    tmp_path: Path, processes: Processes, make_meter: Callable[..., MeterServer]
) -> None:
    server = make_meter(rtu=True)
    await server.start()
    path = tmp_path / f"tty-{server.port}"
    await asyncio.to_thread(line_to, processes, server.port, tmp_path)
    cable = processes._started[-1]
    link = ModbusLink(BusTarget(transport="rtu", serial=str(path), timeout_s=0.2, drain_s=0.05))
    link.open()
    assert len(await link.read(1, 4, 0, 2)) == 2
    cable.terminate()
    await asyncio.to_thread(cable.wait, 5)
    await asyncio.to_thread(wait_for, lambda: not path.exists())
    for _ in range(2):
        with pytest.raises(LinkDown):
            await link.read(1, 4, 0, 2)
    assert "does not exist; plug the adapter in" in link.problem
    await asyncio.to_thread(line_to, processes, server.port, tmp_path)
    answers: list[int] = []

    async def ask() -> None:
        while not answers:
            try:
                answers.extend(await link.read(1, 4, 0, 2))
            except LinkDown:
                await asyncio.sleep(0.05)

    asking = asyncio.create_task(ask())
    await until(lambda: answers, 10)
    await asking
    assert link.connects == 2
    await link.close()
    await server.stop()
