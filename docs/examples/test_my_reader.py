"""An example: tests of your own meter software against simulated meters of this project.

Install `openmg[sim]`; pytest then knows the fixtures `openmg_meter` and `openmg_microgrid`.
"""

import socket
import struct

import pytest


def read_floats(host: str, port: int, unit: int, address: int, count: int) -> tuple[float, ...]:
    """Your software stands here; this reader knows float32 input registers of one answer only."""
    with socket.create_connection((host, port), timeout=1.0) as connection:
        connection.sendall(struct.pack(">HHHBBHH", 1, 0, 6, unit, 4, address, 2 * count))
        answer = b""
        while len(answer) < 9 + 4 * count:
            part = connection.recv(200)
            if not part:
                raise ConnectionError("the meter closed the connection")
            answer += part
    return struct.unpack(f">{count}f", answer[9:])


def test_power_is_read_as_the_meter_shows_it(openmg_meter):
    meter = openmg_meter(profile="sdm630", units=3)
    (power_w,) = read_floats(meter.host, meter.port, 2, 0x34, 1)
    assert power_w == meter.values(2)["power_total_w"]


def test_a_silent_meter_is_a_time_out_and_no_old_value(openmg_meter):
    meter = openmg_meter()
    meter.faults().silent = True
    with pytest.raises(TimeoutError):
        read_floats(meter.host, meter.port, 1, 0x34, 1)


def test_energy_grows_with_time(openmg_meter):
    meter = openmg_meter()
    before = read_floats(meter.host, meter.port, 1, 0x48, 2)
    meter.advance(6 * 3600)
    assert sum(read_floats(meter.host, meter.port, 1, 0x48, 2)) > sum(before)


def test_the_feeder_sees_the_sum_of_the_homes(openmg_microgrid):
    grid = openmg_microgrid(homes=6)
    powers_w = [read_floats(home.host, home.port, 1, 0x34, 1)[0] for home in grid.homes]
    assert sum(powers_w) == read_floats(grid.feeder.host, grid.feeder.port, 1, 0x34, 1)[0]
