"""One bus, many units: a dead one never stops its neighbours, and no answer reaches another question."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import pytest
from bus_kit import Chain, on_pty, on_tcp, register
from edge_kit import until

from edge_agent.modbus import link as link_module
from edge_agent.modbus.errors import BadAnswer, LinkDown, LinkError, Refused
from edge_agent.modbus.link import MAX_QUEUE, ModbusLink
from edge_agent.modbus.patience import LAST_BACK_OFF_S, Patience
from edge_agent.modbus.target import BusTarget

TRANSPORTS = ("tcp", "rtu_over_tcp", "rtu")
TIMEOUT_S, DRAIN_S = 0.1, 0.15


@contextlib.asynccontextmanager
async def link_to(
    chain: Chain, transport: str, timeout_s: float = TIMEOUT_S, drain_s: float = DRAIN_S
) -> AsyncIterator[ModbusLink]:
    """An open link to the chain."""
    async with contextlib.AsyncExitStack() as stack:
        if transport == "rtu":
            target = BusTarget(
                transport="rtu", serial=stack.enter_context(on_pty(chain)), timeout_s=timeout_s, drain_s=drain_s, baud=115200
            )
        else:
            port = await stack.enter_async_context(on_tcp(chain, transport))
            target = BusTarget("127.0.0.1", port, transport, timeout_s, drain_s)
        link = ModbusLink(target)
        link.open()
        try:
            yield link
        finally:
            await link.close()


def right(unit: int, address: int, count: int) -> tuple[int, ...]:
    return tuple(register(unit, address + i) for i in range(count))


async def answered(link: ModbusLink, unit: int, address: int, count: int) -> None:
    """The unit answers, in the end, and rightly at once: a busy machine may miss a time-out, never a value."""
    deadline = time.monotonic() + 10
    while True:
        try:
            assert await link.read(unit, 4, address, count) == right(unit, address, count)
            return
        except LinkDown:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_each_unit_of_a_bus_is_read_over_one_connection(transport: str) -> None:
    chain = Chain()
    async with link_to(chain, transport, timeout_s=3.0) as link:
        answers = await asyncio.gather(*(link.read(unit, 3, 4 * unit, 2) for unit in chain.units))
        assert answers == [right(unit, 4 * unit, 2) for unit in chain.units]
        assert await link.read(3, 1, 0, 11) == (1, 0, 0) * 3 + (1, 0)
        assert await link.read(3, 4, 7, 125) == right(3, 7, 125)
    assert link.connects == 1 and link.counts_of(3).answers == 3


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_late_answer_of_one_unit_reaches_no_question(transport: str) -> None:
    """Asked for 10, 20, 30 after one late answer, the bare library gives 0, 10, 20, for ever and without an error."""
    chain = Chain()
    async with link_to(chain, transport) as link:
        await answered(link, 1, 0, 1)
        for late_s in (TIMEOUT_S + 0.02, TIMEOUT_S + 0.1):
            chain.late[1] = (late_s, 1)
            with pytest.raises(LinkDown, match=r"did not answer within 0\.1 s"):
                await link.read(1, 4, 0, 1)
            for address in (10, 20, 30):
                await answered(link, 1, address, 1)
                await answered(link, 2, address, 1)
    assert link.counts_of(1).timeouts >= 2 and link.counts_of(1).bad_answers == link.counts_of(2).bad_answers == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_dead_unit_costs_its_nine_neighbours_one_time_out_a_step(
    transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "RETRY_PATIENCE_S", 0.5)  # a busy machine makes the bus a busy one
    chain = Chain(pace_s=0.002)
    live = [unit for unit in chain.units if unit != 5]

    async def poll(link: ModbusLink, unit: int, until: float) -> None:
        while time.monotonic() < until:
            with contextlib.suppress(LinkDown):
                assert await link.read(unit, 4, unit, 2) == right(unit, unit, 2)
            await asyncio.sleep(0.05)

    async with link_to(chain, transport) as link:
        for unit in chain.units:
            await answered(link, unit, unit, 2)
        chain.dead.add(5)
        first, began = len(chain.asked), time.monotonic()
        await asyncio.gather(*(poll(link, unit, began + 2.5) for unit in chain.units))
        order = [unit for _, unit, *_ in chain.asked[first:]]
    # At 0, at once again, then after 0.25, 0.5 and 1 s: each try is one request, behind those of the neighbours.
    steps = [place for place, unit in enumerate(order) if unit == 5]
    assert 2 <= len(steps) <= 6 and link.counts_of(5).timeouts >= len(steps)
    assert all(later - earlier > 1 for earlier, later in zip(steps, steps[1:], strict=False))
    for earlier, later in zip(steps[1:], steps[2:], strict=False):  # all nine were asked between two tries
        assert set(order[earlier:later]) >= set(live), order
    assert all(order.count(unit) >= 5 for unit in live)
    assert link.connects == 1  # nobody was cut off


async def test_the_connection_is_made_anew_when_all_units_are_silent() -> None:
    chain = Chain()
    async with link_to(chain, "tcp") as link:
        for unit in (1, 2):
            await link.read(unit, 4, 0, 2)
        chain.dead.update((1, 2))
        for unit, connections in ((1, 1), (2, 1), (1, 2)):
            with pytest.raises(LinkDown, match="did not answer"):
                await link.read(unit, 4, 0, 2)
            assert chain.connections == connections
        chain.dead.clear()
        await asyncio.sleep(0.3)
        assert await link.read(2, 4, 0, 2) == right(2, 0, 2)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "garbage", [b"\x00" * 9, b"\x01\x04\x02\x00", bytes(range(256)) * 2, b"HTTP/1.1 400 Bad Request\r\n\r\n"]
)
async def test_garbage_of_one_unit_leaves_its_neighbour_right(
    transport: str, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    chain = Chain(garbage={1: garbage})
    async with link_to(chain, transport) as link:
        for address in range(3):
            with pytest.raises(LinkError):
                await link.read(1, 4, address, 2)
            await answered(link, 2, address, 2)
        chain.garbage.clear()
        link.forgive(1)
        await answered(link, 1, 6, 2)
    assert not [r for r in caplog.records if r.name.startswith("asyncio")]


async def test_each_read_has_its_own_time_out_whatever_was_read_before() -> None:
    """One timer serves them all: it was set for the first read, and is due while the second and the third still have time."""
    chain = Chain(dead={3}, late={2: (0.45, 1)})
    async with link_to(chain, "tcp", timeout_s=0.6) as link:
        assert await link.read(1, 4, 0, 2) == right(1, 0, 2)
        await asyncio.sleep(0.3)
        assert await link.read(2, 4, 0, 2) == right(2, 0, 2)
        began = time.monotonic()
        with pytest.raises(LinkDown, match="did not answer within 0.6 s"):
            await link.read(3, 4, 0, 2)
        assert 0.6 <= time.monotonic() - began < 1.1
        await asyncio.sleep(1.0)  # long enough for a timer that rests
        assert await link.read(1, 4, 0, 2) == right(1, 0, 2)


async def test_a_link_that_was_closed_amid_requests_can_be_opened_again() -> None:
    chain = Chain(late={1: (5.0, 1)})
    async with on_tcp(chain) as port:
        link = ModbusLink(BusTarget("127.0.0.1", port, "tcp", 5.0, DRAIN_S))
        link.open()
        waiting = [asyncio.create_task(link.read(unit, 4, 0, 2)) for unit in (1, 2, 3)]
        await until(lambda: chain.asked, 5)
        await link.close()
        for task in waiting:
            with pytest.raises(LinkDown, match="closed"):
                await task
        link.open()
        first = asyncio.create_task(link.read(2, 4, 0, 2))
        await asyncio.sleep(0)  # asked for, and nothing is connected yet
        await link.close()
        with pytest.raises(LinkDown, match="closed"):
            await first
        link.open()
        await asyncio.sleep(0.05)  # nothing is asked yet, and nothing left of what was
        assert await link.read(2, 4, 0, 2) == right(2, 0, 2)
        await link.close()


async def test_a_gateway_that_hangs_up_at_once_is_tried_again() -> None:
    chain = Chain()

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    link = ModbusLink(BusTarget("127.0.0.1", port, "tcp", 1.0, DRAIN_S))
    link.open()
    for unit in (1, 2, 3):
        with pytest.raises(LinkDown):
            await link.read(unit, 4, 0, 2)
    server.close()
    async with on_tcp(chain, port=port):
        await answered(link, 1, 0, 2)
        await link.close()


@pytest.mark.parametrize("transport", ["rtu_over_tcp", "rtu"])
async def test_silence_is_counted_from_the_last_byte(transport: str) -> None:
    chain = Chain(late={1: (0.25, 1)})
    async with link_to(chain, transport, drain_s=0.5) as link:  # a busy machine's answer is later still, but not by that
        with pytest.raises(LinkDown):
            await link.read(1, 4, 0, 2)
        await answered(link, 2, 0, 2)
    first, second = (when for when, *_ in chain.asked[:2])
    assert second - first > 0.72  # 0.25 until the late answer, then 0.5; from the time-out it would be 0.6


async def test_a_line_that_is_never_silent_is_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "MAX_DRAIN_S", 1.0)

    async def jabber(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        jabbering.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while not writer.is_closing():
                writer.write(b"\xff")
                await writer.drain()
                await asyncio.sleep(0.02)

    jabbering: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(jabber, "127.0.0.1", 0)
    link = ModbusLink(BusTarget("127.0.0.1", server.sockets[0].getsockname()[1], "rtu_over_tcp", 0.1, 0.5))
    link.open()
    await asyncio.gather(*(link.read(unit, 4, 0, 2) for unit in (1, 2)), return_exceptions=True)
    connects, timeouts = link.connects, link.counts_of(2).timeouts
    await link.close()
    server.close()
    for writer in jabbering:
        writer.transport.abort()
    assert connects == 2 and timeouts == 1


async def test_requests_wait_within_bounds_and_are_told_when_there_are_too_many() -> None:
    chain = Chain(units=range(1, 60), pace_s=0.01)
    async with link_to(chain, "tcp", timeout_s=2.0) as link:
        waiting = [asyncio.create_task(link.read(unit, 4, 0, 1)) for unit in range(1, 50) for _ in range(20)]
        await asyncio.sleep(0.05)
        refused = [task for task in waiting if task.done() and isinstance(task.exception(), LinkDown)]
        assert len(waiting) - MAX_QUEUE - 10 <= len(refused) < len(waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await until(lambda: not link._queue, 5)  # whom nobody waits for is not asked
        assert await link.read(1, 4, 0, 1) == right(1, 0, 1) and len(chain.asked) < 20


async def test_an_absent_host_is_told_once_and_costs_no_unit_its_patience(free_port: Callable[[], int]) -> None:
    link = ModbusLink(BusTarget("127.0.0.1", free_port()))
    link.open()
    for _ in range(2):
        with pytest.raises(LinkDown, match="cannot be reached"):
            await link.read(1, 4, 0, 1)
    with pytest.raises(LinkDown, match="next try in"):
        await link.read(2, 4, 0, 1)
    status = link.status()
    assert "cannot be reached" in status["problem"] and status["units"]["1"]["problem"] == ""
    await link.close()


async def test_guests_come_last_and_their_failures_are_their_own() -> None:
    chain = Chain(pace_s=0.03)
    async with link_to(chain, "tcp", timeout_s=1.0) as link:
        guests = [asyncio.create_task(link.read(2, 4, i, 1, guest=True)) for i in range(10)]
        await asyncio.sleep(0.01)  # the first is on its way
        own = await asyncio.gather(*(link.read(1, 4, i, 1) for i in range(3)))
        assert own == [right(1, i, 1) for i in range(3)]
        assert sum(task.done() for task in guests) <= 1
        await asyncio.gather(*guests)
        chain.dead.add(1)
        with pytest.raises(LinkDown):
            await link.read(1, 4, 0, 1, guest=True)
        chain.dead.clear()
        assert await link.read(1, 4, 0, 1) == right(1, 0, 1)
    assert link.counts_of(1).timeouts == 0 and link.counts_of(1, guest=True).timeouts == 1 and link.connects == 1


def test_patience_doubles_within_its_bound_and_ends_with_an_answer() -> None:
    patience = Patience()
    waits = []
    for _ in range(20):
        patience.failed(100.0, "is dead")
        waits.append(patience.wait_s(100.0))
    assert waits[:6] == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0] and waits[-1] == LAST_BACK_OFF_S
    assert not patience.failed(100.0, "is dead") and patience.recovered() and not patience.recovered()
    assert patience.wait_s(100.0) == 0.0 and patience.failed(101.0, "again")


async def test_a_serial_port_says_why_it_cannot_be_opened(tmp_path) -> None:
    async def problem(path: str) -> str:
        link = ModbusLink(BusTarget(transport="rtu", serial=path))
        link.open()
        with pytest.raises(LinkDown) as caught:
            await link.read(1, 4, 0, 1)
        await link.close()
        return str(caught.value)

    (tmp_path / "file").write_bytes(b"")
    assert "does not exist; plug the adapter in" in await problem(str(tmp_path / "ttyUSB0"))
    assert "is no serial port" in await problem(str(tmp_path / "file"))
    chain = Chain()
    with on_pty(chain) as path:
        first = ModbusLink(BusTarget(transport="rtu", serial=path))
        first.open()
        assert await first.read(1, 4, 0, 1) == right(1, 0, 1)
        assert "in use by another program" in await problem(path)
        await first.close()


def test_what_a_read_can_fail_with_is_one_family() -> None:
    assert all(issubclass(kind, LinkError) for kind in (LinkDown, BadAnswer, Refused))
