"""What a DLMS meter's section may say, what its registers are worth, and that no number is ever used twice.

Not here: a meter that answers (`test_edge_dlms_gurux`), one that answers wrongly (`test_edge_dlms_faults`).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.dlms.counter import BLOCK, CounterError, InvocationCounter
from edge_agent.dlms.values import MAX_SCALER, WATT, WATT_HOUR, NoRegister, Scale, decoded
from edge_agent.dlms_section import MAX_COUNTER, DlmsSection, obis
from edge_agent.meter_section import DLMS_PROFILE, MeterSection

PROCESSES, EACH = 4, 2 * BLOCK + 3
TAKE = """
import sys
from pathlib import Path
from edge_agent.dlms.counter import InvocationCounter
counter = InvocationCounter(Path(sys.argv[1]), 1)
print(*(counter.next() for _ in range(int(sys.argv[2]))))
"""


@pytest.mark.parametrize(
    ("scaler", "raw", "unit", "whole"),
    [
        (0, 1234, WATT_HOUR, 1234),
        (3, 1234, WATT_HOUR, 1_234_000),
        (-1, 12_349, WATT_HOUR, 1234),
        (-1, 15_005, WATT, 1501),
        (-1, -15_004, WATT, -1500),
        (-3, 2**63, WATT_HOUR, 2**63 // 1000),
    ],
)
def test_a_register_is_worth_what_its_scaler_says(scaler: int, raw: int, unit: int, whole: int) -> None:
    assert Scale.of([scaler, unit]).whole(raw, unit) == whole


@given(st.integers(-MAX_SCALER, MAX_SCALER), st.integers(-(2**63), 2**64 - 1), st.sampled_from([WATT, WATT_HOUR]))
def test_whole_units_are_within_one_of_the_exact_value(scaler: int, raw: int, unit: int) -> None:
    whole = Scale(scaler, unit).whole(raw, unit)
    scale, exact = 10 ** max(0, -scaler), raw * 10 ** max(0, scaler)
    difference = exact - whole * scale
    assert 0 <= difference < scale if unit == WATT_HOUR else 2 * abs(difference) <= scale


@pytest.mark.parametrize("answer", [None, 5, [1], [0, 30, 1], ["0", 30], [True, 30], [10, 30], [-10, 30], b"\x00\x1e"])
def test_an_answer_that_is_no_scaler_and_unit_is_refused(answer: object) -> None:
    with pytest.raises(NoRegister):
        Scale.of(answer)


@pytest.mark.parametrize("raw", [None, 1.5, "5", b"\x05", True, [5]])
def test_a_value_that_is_no_integer_is_refused(raw: object) -> None:
    with pytest.raises(NoRegister):
        Scale(0, WATT).whole(raw, WATT)


@pytest.mark.parametrize(
    ("data", "value"),
    [("0fff", -1), ("1000ff", 255), ("0600000100", 256), ("14ffffffffffffff00", -256), ("02020fff161e", [-1, 30]),
     ("0903010203", b"\x01\x02\x03"), ("0900", b"")],
)  # fmt: skip
def test_data_of_a_register_is_decoded(data: str, value: object) -> None:
    assert decoded(bytes.fromhex(data)) == value


@pytest.mark.parametrize("data", ["", "00", "06000001", "0fff00", "0202", "02020fff", "02ff0f00", "0905aa", "098100", "0a0168"])
def test_data_that_no_register_holds_is_refused(data: str) -> None:
    with pytest.raises(NoRegister):
        decoded(bytes.fromhex(data))


@pytest.mark.parametrize(
    "text", ["", "1.8.0", "1.0.1.8.0.256", "1-0:1.8.0.255", "1.0.1.8.0.255.", "1.0.1.8.0.-5", "1x0x1x8x0x255"]
)
def test_a_code_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="import_energy is .*six numbers"):
        obis("import_energy", text)


def test_the_whole_code_counts() -> None:
    assert obis("import_energy", "1.0.1.8.0.12") == (1, 0, 1, 8, 0, 12)


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"framing": "lapb"}, "framing is 'lapb'; use one of wrapper, hdlc"),
        ({"physical": 17}, 'physical is for `framing = "hdlc"`'),
        ({"window": 3}, "window is for `framing"),
        ({"framing": "hdlc", "client": 127}, "client is 127; it must be 1 to 126"),
        ({"framing": "hdlc", "server": 300}, "server is 300; it must be 1 to 126"),
        ({"framing": "hdlc", "physical": 16383}, "physical is 16383; it must be 0 to 16382"),
        ({"framing": "hdlc", "physical": 300, "address_bytes": 2}, "physical is 300; it must be 0 to 126"),
        ({"framing": "hdlc", "physical": 17, "address_bytes": 1}, "physical has no room"),
        ({"framing": "hdlc", "address_bytes": 4}, "physical is missing"),
        ({"framing": "hdlc", "physical": 17, "address_bytes": 3}, "address_bytes is 3"),
        ({"framing": "hdlc", "information_bytes": 31}, "information_bytes is 31; it must be 32 to 2030"),
        ({"framing": "hdlc", "window": 8}, "window is 8; it must be 1 to 7"),
        ({"client": 0}, "client is 0"),
        ({"server": 70_000}, "server is 70000"),
        ({"authentication": "high"}, "authentication is 'high'"),
        ({"authentication": "low"}, "password_file is missing"),
        ({"authentication": "hls_gmac"}, "encryption_key_file is missing"),
        ({"password_file": Path("x")}, "password_file is not used"),
        ({"system_title": "00" * 8}, "system_title is for"),
        ({"import_energy": ""}, "import_energy is empty"),
        ({"import_power": ""}, "import_power is empty"),
        ({"net_power": "16.7"}, "net_power is '16.7'"),
        ({"first_counter": -1}, "first_counter is -1"),
    ],
)
def test_a_section_that_cannot_be_is_told(section: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        DlmsSection(**section)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("section", "size", "address"),
    [
        ({"server": 17}, 1, "17"),
        ({"physical": 17}, 2, "1/17"),
        ({"physical": 0}, 2, "1/0"),
        ({"physical": 127}, 4, "1/127"),
        ({"server": 300, "physical": 17}, 4, "300/17"),
        ({"physical": 17, "address_bytes": 4}, 4, "1/17"),
    ],
)
def test_an_hdlc_address_is_as_short_as_it_can_be(section: dict[str, int], size: int, address: str) -> None:
    made = DlmsSection(framing="hdlc", **section)
    assert (made.address_size, made.address) == (size, address)


def test_secrets_that_others_may_read_or_that_are_none_are_refused_untold(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("00112233445566778899aabbccddeeff\n")
    key.chmod(0o644)
    files = {"authentication": "hls_gmac", "encryption_key_file": key, "authentication_key_file": key}
    with pytest.raises(ValueError, match="open to other users"):
        DlmsSection(**files, system_title="4f4d470000000001")  # type: ignore[arg-type]
    key.chmod(0o600)
    with pytest.raises(ValueError, match="system_title must be 16 hexadecimal digits"):
        DlmsSection(**files, system_title="4f4d47")  # type: ignore[arg-type]
    key.write_text("00112233445566778899aabbccddee")
    with pytest.raises(ValueError, match="must be 32 hexadecimal digits") as told:
        DlmsSection(**files, system_title="4f4d470000000001")  # type: ignore[arg-type]
    assert "0011" not in str(told.value)


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"protocol": "iec"}, "protocol is 'iec'"),
        ({"dlms": DlmsSection()}, "dlms belongs to"),
        ({"protocol": "dlms"}, "port is 502, which is for Modbus"),
        ({"protocol": "dlms", "port": 4059, "profile": "em24"}, "profile is for Modbus"),
        ({"protocol": "dlms", "port": 4059, "transport": "rtu_over_tcp"}, "dlms uses one of tcp, serial"),
    ],
)
def test_modbus_and_dlms_are_not_mixed(section: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        MeterSection(host="192.0.2.7", **section)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"serial": "/dev/ttyUSB0", "transport": "serial"}, "framing is 'wrapper', which no serial line carries"),
        ({"serial": "/dev/ttyUSB0", "dlms": DlmsSection(framing="hdlc")}, 'serial is for `transport = "serial"`'),
        ({"serial": "/dev/ttyUSB0", "transport": "rtu"}, "transport is 'rtu'; dlms uses one of tcp, serial"),
        ({"transport": "serial", "dlms": DlmsSection(framing="hdlc")}, "serial is missing"),
        ({"serial": "/dev/ttyUSB0", "protocol": "modbus", "transport": "serial"}, "modbus uses one of"),
    ],
)
def test_a_serial_line_of_a_dlms_meter_is_told_as_such(section: dict[str, object], problem: str) -> None:
    pytest.importorskip("dlms_cosem", reason="the extra dlms is not installed")
    with pytest.raises(ValueError, match=problem):
        MeterSection(**{"protocol": "dlms", **section})  # type: ignore[arg-type]


def test_a_dlms_meter_has_the_profile_that_says_so() -> None:
    pytest.importorskip("dlms_cosem", reason="the extra dlms is not installed")
    meter = MeterSection(host="192.0.2.7", port=4059, protocol="dlms")
    assert (meter.profile_name, meter.load_profile(), meter.where) == ("dlms", DLMS_PROFILE, "192.0.2.7:4059 server 1")


def _without_the_library(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; sys.modules['dlms_cosem'] = None; from edge_agent.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False)


IDENTITY = ("--name", "home-1", "--microgrid", "1", "--mqtt", "mqtt://127.0.0.1:1", "--operator", "0x" + "11" * 20)


def test_without_the_extra_one_sentence_says_what_to_install_and_modbus_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    init = ("init", "--host", "192.0.2.7", "--output", str(path), *IDENTITY, "--chain-id", "7", "--demo-key")
    refused = _without_the_library(*init, "--protocol", "dlms")
    assert refused.returncode == 2 and not path.exists()
    assert refused.stderr.strip().endswith("needs a library that is not installed; run pip install 'openmg[agent,dlms]'")
    assert len(refused.stderr.strip().splitlines()) == 1
    assert _without_the_library(*init).returncode == 0 and path.exists()


INIT = {
    "wrapper": (["--host", "192.0.2.7"], ("port = 4059",), "framing"),
    "gateway": (["--host", "192.0.2.7", "--framing", "hdlc", "--server", "2"], ('framing = "hdlc"', "server = 2"), "physical"),
    "serial": (
        ["--serial", "/dev/ttyUSB0", "--physical", "17", "--baud", "2400"],
        ('serial = "/dev/ttyUSB0"', 'transport = "serial"', "baud = 2400", 'framing = "hdlc"', "physical = 17"),
        "host =",
    ),
}


@pytest.mark.parametrize("place", INIT)
def test_init_writes_a_file_that_check_passes(place: str, tmp_path: Path) -> None:
    pytest.importorskip("dlms_cosem", reason="the extra dlms is not installed")
    path, (arguments, lines, absent) = tmp_path / "agent.toml", INIT[place]
    command = [sys.executable, "-m", "edge_agent"]
    init = ["init", *arguments, "--output", str(path), *IDENTITY, "--chain-id", "7", "--demo-key"]
    subprocess.run([*command, *init, "--protocol", "dlms"], check=True, capture_output=True, timeout=60)
    checked = subprocess.run([*command, "check", "--config", str(path)], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stderr
    text = path.read_text()
    assert 'protocol = "dlms"' in text and "[meter.dlms]" in text and "profile" not in text and absent not in text
    assert all(line in text.splitlines() for line in lines)


def test_init_takes_no_dlms_address_for_a_modbus_meter(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge_agent", "init", "--host", "192.0.2.7", "--output", str(tmp_path / "agent.toml")]
    refused = subprocess.run(
        [*command, *IDENTITY, "--chain-id", "7", "--physical", "17"], capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 2 and "--physical is for --protocol dlms" in refused.stderr


def test_no_number_is_given_twice_by_processes_that_run_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TAKE, str(tmp_path / "counter"), str(EACH)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    taken = [list(map(int, process.communicate(timeout=60)[0].split())) for process in running]
    numbers = [number for numbers in taken for number in numbers]
    assert len(numbers) == len(set(numbers)) == PROCESSES * EACH
    assert all(numbers == sorted(numbers) for numbers in taken)


def test_a_number_that_was_reserved_is_not_given_again_after_an_end(tmp_path: Path) -> None:
    path = tmp_path / "state" / "counter"
    first = InvocationCounter(path, 5)
    assert [first.next(), first.next()] == [5, 6]
    assert InvocationCounter(path, 5).next() == 5 + BLOCK
    assert InvocationCounter(path, 10_000).next() == 10_000
    assert path.stat().st_mode & 0o077 == 0


def test_a_session_goes_on_in_its_block_unless_another_process_took_one(tmp_path: Path) -> None:
    """A meter that hangs up again and again does not use up the numbers."""
    path = tmp_path / "counter"
    agent = InvocationCounter(path, 1)
    for session in range(3):
        agent.start_session()
        assert agent.next() == 1 + session
    command = InvocationCounter(path, 1)
    command.start_session()
    assert command.next() == 1 + BLOCK
    agent.start_session()
    assert agent.next() == 1 + 2 * BLOCK, "above the command's: a meter refuses what is lower"


@pytest.mark.parametrize("text", ["", "12a", "-5", "9" * 11, str(MAX_COUNTER)])
def test_a_counter_file_that_is_none_or_at_its_end_gives_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "counter"
    path.write_text(text)
    with pytest.raises(CounterError, match=f"counter file {path}"):
        InvocationCounter(path, 1).next()
    assert path.read_text() == text
