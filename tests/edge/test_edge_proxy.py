"""Other programs read the bus through the agent: read only, bounded, and never in its way."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import struct
import time
from collections.abc import AsyncIterator

import pytest
from bus_kit import Chain, on_pty, on_tcp, register

from edge_agent.modbus import proxy as proxy_module
from edge_agent.modbus.errors import ProxyError
from edge_agent.modbus.link import ModbusLink
from edge_agent.modbus.proxy import MAX_CONNECTIONS, ModbusProxy
from edge_agent.modbus.target import BusTarget

READ_TWO = struct.pack(">BHH", 4, 10, 2)


@contextlib.asynccontextmanager
async def proxied(
    chain: Chain, keep_seconds: float = 0.0, serial: bool = False, timeout_s: float = 3.0
) -> AsyncIterator[tuple[ModbusLink, ModbusProxy]]:
    async with contextlib.AsyncExitStack() as stack:
        if serial:
            path = stack.enter_context(on_pty(chain))
            target = BusTarget(transport="rtu", serial=path, timeout_s=timeout_s, drain_s=0.1, baud=115200)
        else:
            target = BusTarget("127.0.0.1", await stack.enter_async_context(on_tcp(chain)), timeout_s=timeout_s, drain_s=0.1)
        link = ModbusLink(target)
        proxy = ModbusProxy(link, 3, "127.0.0.1", 0, keep_seconds)
        link.open()
        await proxy.start()
        try:
            yield link, proxy
        finally:
            await proxy.stop()
            await link.close()


class Guest:
    """A Modbus TCP client on a plain connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> Guest:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, unit: int, pdu: bytes) -> bytes:
        self.writer.write(struct.pack(">HHHB", 77, 0, len(pdu) + 1, unit) + pdu)
        transaction, _, length, answered = struct.unpack(">HHHB", await self.reader.readexactly(7))
        assert (transaction, answered) == (77, unit)
        return await self.reader.readexactly(length - 1)

    def close(self) -> None:
        self.writer.transport.abort()


@pytest.mark.parametrize("serial", [False, True])
async def test_mbpoll_reads_a_meter_that_the_agent_owns(serial: bool) -> None:
    if shutil.which("mbpoll") is None:
        pytest.skip("mbpoll is not installed")
    async with proxied(Chain(), serial=serial) as (link, proxy):
        command = ["mbpoll", "-m", "tcp", "-p", str(proxy.port), "-a", "2", "-r", "11", "-c", "3", "-t", "3", "-1", "127.0.0.1"]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        said = (await process.stdout.read()).decode()
        assert await process.wait() == 0
        assert [int(line.split()[1]) for line in said.splitlines() if line.startswith("[")] == [2010, 2011, 2012]
        assert link.counts_of(2, guest=True).answers == 1 and link.counts_of(2).answers == 0


async def test_registers_bits_and_the_device_itself_are_read() -> None:
    async with proxied(Chain()) as (_, proxy):
        guest = await Guest.connect(proxy.port)
        for unit, meant in ((2, 2), (0, 3), (255, 3)):
            answer = await guest.ask(unit, READ_TWO)
            assert answer == struct.pack(">BBHH", 4, 4, register(meant, 10), register(meant, 11))
        assert await guest.ask(2, struct.pack(">BHH", 1, 0, 11)) == bytes([1, 2, 0b01001001, 0b010])
        guest.close()


@pytest.mark.parametrize(
    ("unit", "pdu", "code"),
    [
        (1, struct.pack(">BHH", 6, 0, 1), 1),
        (1, struct.pack(">BHHBH", 16, 0, 1, 2, 7), 1),
        (1, struct.pack(">BHH", 5, 0, 0xFF00), 1),
        (1, struct.pack(">BHHHHHBH", 23, 0, 1, 0, 1, 1, 2, 7), 1),
        (1, b"\x2b\x0e\x01\x00", 1),
        (1, struct.pack(">BHH", 4, 0, 126), 3),
        (1, struct.pack(">BHH", 4, 0, 0), 3),
        (1, struct.pack(">BHH", 4, 0xFFFF, 2), 2),
        (1, b"\x04", 3),
        (250, READ_TWO, 10),
        (99, READ_TWO, 11),
    ],
)
async def test_what_is_no_possible_read_never_reaches_the_bus(unit: int, pdu: bytes, code: int) -> None:
    chain = Chain()
    async with proxied(chain, timeout_s=0.3) as (_, proxy):
        guest = await Guest.connect(proxy.port)
        assert await guest.ask(unit, pdu) == bytes([pdu[0] | 0x80, code])
        assert (proxy.counts.refused, proxy.counts.failed) == ((1, 0) if code == 1 else (0, 1))
        assert len(chain.asked) == (code == 11)
        guest.close()


async def test_the_same_block_is_answered_from_memory_for_one_interval() -> None:
    chain = Chain()
    async with proxied(chain, keep_seconds=0.9) as (_, proxy):
        guests = [await Guest.connect(proxy.port) for _ in range(3)]
        first = [await guest.ask(1, READ_TWO) for guest in guests]
        assert len(set(first)) == 1 and len(chain.asked) == 1 and proxy.counts.cached == 2
        await guests[0].ask(2, READ_TWO)
        assert len(chain.asked) == 2
        await asyncio.sleep(1.0)
        await guests[0].ask(1, READ_TWO)
        assert len(chain.asked) == 3
        for guest in guests:
            guest.close()


async def test_greedy_guests_delay_the_agents_poll_by_one_transaction() -> None:
    pace_s = 0.04
    chain = Chain(pace_s=pace_s)
    async with proxied(chain) as (link, proxy):
        guests = [await Guest.connect(proxy.port) for _ in range(MAX_CONNECTIONS)]

        async def greedy(guest: Guest, address: int) -> None:
            while True:
                await guest.ask(1, struct.pack(">BHH", 4, address, 2))

        tasks = [asyncio.create_task(greedy(guest, 2 * i)) for i, guest in enumerate(guests)]
        await asyncio.sleep(0.2)
        for i in range(8):
            before = len(chain.asked)
            assert await link.read(3, 4, 500 + i, 1) == (register(3, 500 + i),)
            order = [address for _, _, address, _ in chain.asked[before:]]
            assert order.index(500 + i) <= 1  # behind the transaction that was under way, at most
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for guest in guests:
            guest.close()


async def test_connections_are_bounded_and_strangers_lose_theirs() -> None:
    async with proxied(Chain()) as (_, proxy):
        guests = [await Guest.connect(proxy.port) for _ in range(MAX_CONNECTIONS)]
        await guests[-1].ask(1, READ_TWO)
        late = await Guest.connect(proxy.port)
        assert await late.reader.read() == b"" and proxy.counts.turned_away == 1
        for words in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 7, b"\xff" * 300):
            guests[0].close()
            await asyncio.sleep(0.02)
            guests[0] = await Guest.connect(proxy.port)
            guests[0].writer.write(words)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(guests[0].reader.read(), 2.0) == b""
        assert len(await guests[1].ask(1, READ_TWO)) == 6
        for guest in (*guests, late):
            guest.close()


async def test_a_guest_that_waits_too_long_is_told_that_the_bus_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "PATIENCE_SECONDS", 0.05)
    async with proxied(Chain(pace_s=0.15)) as (link, proxy):
        guest = await Guest.connect(proxy.port)
        assert await guest.ask(1, READ_TWO) == b"\x84\x06"
        began = time.monotonic()
        assert await link.read(2, 4, 0, 1) == (register(2, 0),)  # its answer was not taken for this one
        assert time.monotonic() - began > 0.1
        guest.close()


async def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        proxy = ModbusProxy(ModbusLink(BusTarget("127.0.0.1", 1)), 1, "127.0.0.1", taken.getsockname()[1], 1.0)
        with pytest.raises(ProxyError, match="choose another in \\[proxy\\]"):
            await proxy.start()
