"""Scripted faults: repeatable from the seed, and seen by a reader as real meters' faults are."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim.assembly import Faults, device_of, shared_ports, street_config
from firmware_sim.background import ManualClock
from firmware_sim.config import ClockConfig, SimSection
from firmware_sim.faults import KINDS, LATE_S, REBOOT_REQUESTS, FaultScript, garbled
from firmware_sim.framing import Request, RtuFraming, TcpFraming
from firmware_sim.meter import Meter
from firmware_sim.neighbourhood import Neighbourhood
from firmware_sim.pytest_plugin import DEFAULT_START, ServedMeter
from firmware_sim.server import MeterPort, framed
from openmg.profiles.point import counter_step
from openmg.profiles.profile import bundled, load_profile
from openmg.profiles.registers import decode

Make = Callable[..., ServedMeter]


def port_of(profile: str, kinds: tuple[str, ...], seed: int = 1, meters: int = 2) -> tuple[MeterPort, ManualClock]:
    sim = SimSection(seed=seed, profile=profile, history_days=0)
    neighbourhood = Neighbourhood(street_config(meters, ClockConfig(DEFAULT_START, 0.0), sim))
    clock = ManualClock(DEFAULT_START)
    return shared_ports(neighbourhood, 0, Faults(kinds, seed), rtu=True, clock=clock)[0], clock


ONE_PORT = port_of("sdm630", ())[0]


def transcript(profile: str, kinds: tuple[str, ...], seed: int, requests: int = 150) -> list[tuple[bytes | None, float]]:
    """Frames and delays that a reader gets, asking two units in turn once a second."""
    port, clock = port_of(profile, kinds, seed)
    function = load_profile(profile).link.function_code
    address = 40_000 if profile == "sunspec" else load_profile(profile).point("power_total_w").address
    said = []
    for turn in range(requests):
        request = Request(1 + turn % 2, struct.pack(">BHH", function, address, 2))
        outcome = port.outcome(request)
        assert outcome is not None
        frame = framed(RtuFraming, request, outcome) if outcome.answer is not None else None
        said.append((frame, outcome.delay_s))
        clock.advance(1)
    return said


@pytest.mark.parametrize("profile", bundled())
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(profile: str) -> None:
    first = transcript(profile, KINDS, seed=5)
    assert first == transcript(profile, KINDS, seed=5)
    assert first != transcript(profile, KINDS, seed=6)


def test_each_kind_happens_and_most_requests_go_well() -> None:
    good = transcript("sdm630", (), seed=3, requests=300)
    assert all(frame is not None and delay == 0.0 for frame, delay in good)
    for kind in KINDS:
        got = transcript("sdm630", (kind,), seed=3, requests=300)
        changed = [(frame, delay) for (frame, delay), other in zip(got, good, strict=True) if (frame, delay) != other]
        if kind == "rollover":  # a state of the counters, not of single answers
            assert not changed
            continue
        assert 4 <= len(changed) <= 120, kind
        for frame, delay in changed:
            if kind == "late":
                assert frame is not None and LATE_S[0] <= delay < LATE_S[1]
            elif kind in ("drop", "reboot"):
                assert frame is None
            elif kind == "exception":
                assert frame is not None and frame[1] == 0x84 and frame[2] in (4, 6)
            elif kind == "nan":
                assert frame is not None and decode("float32", "ABCD", struct.unpack(">2H", frame[3:7])) is None
            else:
                assert frame is not None and len(frame) == 9


def test_a_reboot_is_silent_for_its_requests_in_a_row() -> None:
    script = FaultScript(3, 1, ("reboot",))
    silent = [script.next() is not None for _ in range(400)]
    runs = [len(run) for run in "".join("x" if s else " " for s in silent).split()]
    assert runs and all(run % REBOOT_REQUESTS == 0 for run in runs)


@pytest.mark.parametrize("profile", [name for name in bundled() if name != "sunspec"])
def test_counters_roll_over_and_a_reader_still_counts_every_watt_hour(profile: str) -> None:
    port, clock = port_of(profile, ("rollover",))
    described = load_profile(profile)
    point = described.point("energy_import_kwh")
    request = Request(2, struct.pack(">BHH", described.link.function_code, point.address, point.width))
    seen = []
    for _ in range(60):
        outcome = port.outcome(request)
        assert outcome is not None and outcome.answer is not None
        value = point.decode(struct.unpack(f">{point.width}H", outcome.answer[2:]))
        assert value is not None
        seen.append(value)
        clock.advance(300)
    fall = max(a - b for a, b in zip(seen, seen[1:], strict=False))
    limit = described.counter_limit(point)
    assert limit is not None
    assert fall == pytest.approx(limit, rel=1e-3), "the counter began again at 0 within five hours"
    steps = [counter_step(a, b, limit) for a, b in zip(seen, seen[1:], strict=False)]
    home = Neighbourhood(street_config(2, ClockConfig(DEFAULT_START, 0.0), SimSection(profile=profile, history_days=0)))
    used_wh = home.meter("meter-2").counters(DEFAULT_START + 59 * 300).import_wh
    exact = max(point.resolution, limit * 2**-23 if point.type == "float32" else 0.0)
    assert all(step is not None for step in steps)
    assert sum(step or 0.0 for step in steps) == pytest.approx(used_wh / 1000, abs=4 * exact + 0.002)


@given(st.binary(min_size=1, max_size=60), st.integers(0, 2**63))
@settings(max_examples=60)
def test_garbage_differs_and_keeps_its_length(raw: bytes, seed: int) -> None:
    assert garbled(raw, seed) != raw and len(garbled(raw, seed)) == len(raw)


@given(st.binary(max_size=64))
@settings(max_examples=60, deadline=None)
def test_no_bytes_break_the_framings_and_no_request_breaks_a_meter(data: bytes) -> None:
    for framing in (TcpFraming, RtuFraming):
        buffer = bytearray(data)
        try:
            while framing.take(buffer) is not None:
                pass
        except ValueError:
            continue
    outcome = ONE_PORT.outcome(Request(1, data[:253]))
    assert outcome is not None and outcome.answer is not None and len(outcome.answer) >= 2


def test_a_manual_fault_is_seen_by_a_reader(openmg_meter: Make) -> None:
    from modbus_oracle import RawModbus

    meter = openmg_meter(units=2)
    reader = RawModbus(meter.port, unit=2, timeout=0.2)
    assert reader.registers(0, 2)
    meter.faults(2).silent = True
    with pytest.raises(TimeoutError):
        reader.registers(0, 2)
    other = RawModbus(meter.port, unit=1)
    assert other.registers(0, 2), "its neighbour on the same port still answers"
    assert meter.requests(2) == 2 and meter.requests(1) == 1
    reader.close()
    other.close()


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="'lat'; use late, drop"):
        FaultScript(1, 1, ("lat",))


@pytest.mark.parametrize("profile", ["b23", "sunspec"])
def test_a_value_too_large_for_its_register_is_not_available_and_the_counters_stay(
    profile: str, caplog: pytest.LogCaptureFixture
) -> None:
    described = load_profile(profile)
    meter = Meter(lambda _step: 10**11, 0, seed=1)
    device = device_of(described, meter, 1, ManualClock(3600.0))
    if described.sunspec is None:
        power, energy = described.point("power_total_w"), described.point("energy_import_kwh")
        for point in (power, energy):
            answer = device.answer(struct.pack(">BHH", 3, point.address, point.width)).answer
            value = point.decode(struct.unpack(f">{point.width}H", (answer or b"")[2:]))
            assert value is None if point is power else value == pytest.approx(1e8 % 1e6, abs=0.01)
    else:
        answer = device.answer(struct.pack(">BHH", 3, 40_070, 107)).answer or b""
        assert struct.unpack(">H", answer[2 + 36 : 2 + 38]) == (0x8000,) and struct.unpack(">I", answer[2 + 92 : 2 + 96])[0] > 0
    assert caplog.text.count("cannot show its values") == 1
