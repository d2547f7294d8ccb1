"""The link and the reader against real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import struct
import time
from collections.abc import AsyncIterator, Callable

import pytest
from bus_kit import Chain, on_tcp

from edge_agent.modbus.errors import BadAnswer, LinkDown, LinkError, Refused
from edge_agent.modbus.link import ModbusLink, Unit
from edge_agent.modbus.plan import plan_blocks
from edge_agent.modbus.reader import MeterReader
from edge_agent.modbus.target import BusTarget
from firmware_sim.server import MeterServer, crc16
from openmg.profiles.profile import load_profile

Make = Callable[..., MeterServer]
PROFILE = load_profile("sdm630")


def link_to(port: int, transport: str = "tcp", timeout_s: float = 0.2, drain_s: float = 0.4, unit: int = 1) -> Unit:
    link = ModbusLink(BusTarget("127.0.0.1", port, transport, timeout_s, drain_s))
    link.open()
    return link.unit(unit)


@pytest.mark.parametrize("transport", ["tcp", "rtu_over_tcp"])
async def test_every_point_of_the_profile_round_trips(make_meter: Make, transport: str) -> None:
    server = make_meter(rtu=transport == "rtu_over_tcp")
    await server.start()
    reader = MeterReader(link_to(server.port, transport), PROFILE)
    values = (await reader.read(PROFILE.points)).values
    assert set(values) == {point.name for point in PROFILE.points}
    assert values["power_total_w"] == 1200
    assert await reader.detect() == ("frequency_hz", pytest.approx(60, abs=0.05))
    await reader.link.close()
    await server.stop()


@pytest.mark.parametrize("transport", ["tcp", "rtu_over_tcp"])
async def test_a_late_answer_is_never_taken_for_the_next_one(make_meter: Make, transport: str) -> None:
    server = make_meter(rtu=transport == "rtu_over_tcp")
    await server.start()
    link = link_to(server.port, transport)
    volts = await link.read(4, 0, 2)
    server.faults.delay_s, server.faults.delay_answers = 0.3, 1
    with pytest.raises(LinkDown, match="did not answer within 0.2 s"):
        await link.read(4, 0, 2)
    for _ in range(4):  # each would get its predecessor's answer if the late one were still on the line
        power = await link.read(4, 0x34, 2)
        assert struct.unpack(">f", struct.pack(">2H", *power))[0] == 1200.0
        assert await link.read(4, 0, 2) == volts
    await link.link.close()
    await server.stop()


@pytest.mark.parametrize("transport", ["tcp", "rtu_over_tcp"])
async def test_a_cancelled_caller_does_not_shift_the_answers(make_meter: Make, transport: str) -> None:
    server = make_meter(rtu=transport == "rtu_over_tcp")
    await server.start()
    link = link_to(server.port, transport, timeout_s=1.0)
    server.faults.delay_s, server.faults.delay_answers = 0.15, 1
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(link.read(4, 0, 2), 0.05)
    for _ in range(3):
        power = await link.read(4, 0x34, 2)
        assert struct.unpack(">f", struct.pack(">2H", *power))[0] == 1200.0
    assert link.link.connects == 1
    await link.link.close()
    await server.stop()


async def test_a_dead_meter_is_backed_off_from_and_found_again(
    make_meter: Make, free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    link = link_to(port, drain_s=0.02)
    began, attempts, refused_at_once = time.monotonic(), 0, 0
    while time.monotonic() - began < 2.0:
        try:
            await link.read(4, 0, 2)
        except LinkDown as error:
            attempts += 1
            refused_at_once += "next try in" in str(error)
        await asyncio.sleep(0.02)
    assert attempts > 30 and attempts - refused_at_once <= 6  # few real attempts, the rest fail without a socket
    server = make_meter(port=port)
    await server.start()
    deadline = time.monotonic() + 5
    while True:
        try:
            assert len(await link.read(4, 0, 2)) == 2
            break
        except LinkDown:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    messages = [record.message for record in caplog.records if record.name.startswith("edge_agent")]
    assert len(messages) == 2 and "cannot be reached" in messages[0] and "is reached again" in messages[1]
    assert not [record for record in caplog.records if record.name.startswith("asyncio")]
    await link.link.close()
    await server.stop()


async def test_a_silent_unit_times_out_and_recovers(make_meter: Make) -> None:
    server = make_meter()
    await server.start()
    wrong = link_to(server.port, unit=7, drain_s=0.05)
    with pytest.raises(LinkDown, match="unit 7 did not answer"):
        await wrong.read(4, 0, 2)
    await wrong.link.close()
    server.faults.silent = True
    link = link_to(server.port, drain_s=0.05)
    with pytest.raises(LinkDown):
        await link.read(4, 0, 2)
    server.faults.silent = False
    assert len(await link.read(4, 0, 2)) == 2
    await link.link.close()
    await server.stop()


@contextlib.asynccontextmanager
async def lying_meter(answer: Callable[[bytes], bytes]) -> AsyncIterator[int]:
    """A server that answers each request with what the function makes of it; gives its port."""
    connections: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[writer] = asyncio.current_task()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                writer.write(answer(await reader.readexactly(12)))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for writer, task in connections.items():
        writer.transport.abort()
        if task is not None:
            await task


def _frame(request: bytes, pdu: bytes) -> bytes:
    return request[:4] + struct.pack(">HB", len(pdu) + 1, request[6]) + pdu


async def test_an_answer_with_another_count_is_refused() -> None:
    async with lying_meter(lambda request: _frame(request, b"\x04\x02\x12\x34")) as port:
        link = link_to(port, drain_s=0.02)
        with pytest.raises(BadAnswer, match="1 registers instead of 2"):
            await link.read(4, 0, 2)
        assert link.counts.bad_answers == 1
        await link.link.close()


@pytest.mark.parametrize("garbage", [b"\x00" * 12, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x04\x04\x00"])
async def test_garbage_is_a_failed_read_and_nothing_more(garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with lying_meter(lambda request: _frame(request, garbage)) as port:
        link = link_to(port, drain_s=0.02)
        for _ in range(2):
            with pytest.raises((LinkDown, BadAnswer, Refused)):
                await link.read(4, 0, 2)
        await link.link.close()
    assert not [record for record in caplog.records if record.name.startswith("asyncio")]


async def test_no_bytes_end_the_link() -> None:
    """Whatever comes back, a read ends with an error or registers; the next one is served."""
    random_bytes = random.Random(5)

    def answer(request: bytes) -> bytes:
        pdu = random_bytes.randbytes(random_bytes.randrange(0, 12))
        framed = random_bytes.random() < 0.8
        return _frame(request, bytes([random_bytes.choice((4, 3, 0x84, 0x83, 43, 7))]) + pdu) if framed else pdu * 3 + b"\0"

    async with lying_meter(answer) as port:
        link = link_to(port, timeout_s=0.05, drain_s=0.0)
        for _ in range(150):
            link.link._asked(1, False).patience.recovered()  # no back-off: this test has no time for it
            with contextlib.suppress(LinkError):
                await asyncio.wait_for(link.read(4, 0, 2), 2.0)
        await link.link.close()


async def test_a_gateway_without_its_unit_is_a_meter_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    async with lying_meter(lambda request: _frame(request, b"\x84\x0b")) as port:
        link = link_to(port, drain_s=0.02)
        for _ in range(3):
            with pytest.raises(LinkDown, match="not reached by its gateway|next try"):
                await link.read(4, 0, 2)
        await link.link.close()
    assert caplog.text.count("not reached by its gateway") == 1


async def test_an_exception_answer_is_told_and_keeps_the_connection(make_meter: Make) -> None:
    server = make_meter()
    await server.start()
    link = link_to(server.port)
    with pytest.raises(Refused, match="exception 2") as caught:
        await link.read(4, 0, 90)
    assert caught.value.code == 2
    assert len(await link.read(4, 0, 2)) == 2 and link.link.connects == 1
    await link.link.close()
    await server.stop()


async def test_a_unit_that_refuses_long_requests_is_asked_in_shorter_ones(make_meter: Make) -> None:
    server = make_meter(longest=20)  # some units take less than their manual says
    await server.start()
    reader = MeterReader(link_to(server.port), PROFILE)
    assert len((await reader.read(PROFILE.points)).values) == len(PROFILE.points)
    assert reader.max_registers <= 20
    before = reader.unit.counts.requests
    await reader.read(PROFILE.points)
    assert reader.unit.counts.requests - before == len(plan_blocks(PROFILE.points, reader.max_registers))
    again = MeterReader(reader.unit, PROFILE)  # as after a restart: nothing of it is on disk, and little is refused
    refused = reader.unit.counts.exceptions
    await again.read_group("fast")
    assert reader.unit.counts.exceptions - refused <= 1 and again.max_registers <= 20
    await reader.link.close()
    await server.stop()


async def test_an_exception_at_a_length_that_was_answered_before_is_not_remembered() -> None:
    chain, refusing = Chain(units=range(1, 2)), [False]

    def answer(pdu: bytes) -> bytes:
        _, address, count = struct.unpack(">BHH", pdu)
        if refusing[0] and count > 4:
            return b"\x84\x02"
        return bytes([4, 2 * count]) + struct.pack(">f", 60.0) * (count // 2)

    chain.respond = answer
    async with on_tcp(chain) as port:
        reader = MeterReader(link_to(port), PROFILE)
        whole = reader.max_registers
        assert len((await reader.read_group("fast")).values) == len(PROFILE.group("fast"))
        refusing[0] = True
        assert len((await reader.read_group("fast")).values) == len(PROFILE.group("fast"))
        assert reader.max_registers == whole
        await reader.link.close()


async def test_an_implausible_value_is_none_and_counted_and_its_neighbours_are_told() -> None:
    shown = {point.address: 60.0 for point in PROFILE.group("fast")}
    shown |= {PROFILE.point("power_factor_total").address: 0.9, PROFILE.point("frequency_hz").address: 7.0}

    def answer(pdu: bytes) -> bytes:
        _, address, count = struct.unpack(">BHH", pdu)
        return bytes([4, 2 * count]) + b"".join(struct.pack(">f", shown.get(address + i, 0.0)) for i in range(0, count, 2))

    async with on_tcp(Chain(units=range(1, 2), respond=answer)) as port:
        reader = MeterReader(link_to(port), PROFILE)
        for count in (1, 2):
            reading = await reader.read_group("fast")
            assert reading.values["frequency_hz"] is None and reader.implausible == count
            assert reading.number("power_total_w") == 60.0 and set(reading.rejected) == {"frequency_hz"}
            with pytest.raises(BadAnswer, match="frequency_hz is 7 Hz, outside 40 to 70"):
                reading.number("frequency_hz")
        await reader.link.close()


async def test_an_implausible_value_spoils_the_reading() -> None:
    async with lying_meter(lambda request: _frame(request, b"\x04\x04" + struct.pack(">f", 7.0))) as port:
        reader = MeterReader(link_to(port), PROFILE)
        with pytest.raises(BadAnswer, match="frequency_hz is 7 Hz, outside 40 to 70"):
            await reader.detect()
        await reader.link.close()


async def test_waiting_requests_are_bounded_and_fail_when_the_link_closes(make_meter: Make) -> None:
    server = make_meter()
    await server.start()
    server.faults.silent = True
    link = link_to(server.port, timeout_s=5.0)
    waiting = [asyncio.create_task(link.read(4, 0, 2)) for _ in range(40)]
    await asyncio.sleep(0.1)
    failed = [task for task in waiting if task.done()]
    assert failed and all(isinstance(task.exception(), LinkDown) for task in failed)
    await link.link.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, LinkDown) for result in results)
    with pytest.raises(LinkDown, match="not open"):
        await link.read(4, 0, 2)
    await server.stop()


async def test_a_link_closes_at_any_moment_of_a_transaction(make_meter: Make) -> None:
    server = make_meter()
    await server.start()

    async def keep_reading(link: Unit) -> None:
        with contextlib.suppress(LinkDown):
            while True:
                await link.read(4, 0, 2)

    for i in range(60):  # a cancellation may meet an answer
        link = link_to(server.port)
        reading = asyncio.create_task(keep_reading(link))
        await asyncio.sleep(0.002 + i * 0.00005)
        await asyncio.wait_for(link.link.close(), 2.0)
        await reading
    await server.stop()


def test_the_checksum_is_the_published_one() -> None:
    assert crc16(bytes.fromhex("010300000002")) == bytes.fromhex("c40b")  # Modbus over Serial Line V1.02 practice value
