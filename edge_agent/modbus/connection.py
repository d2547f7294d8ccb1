"""One open connection to a bus: the only module that knows pymodbus, pinned because its minor releases break the API.

Rules: one transaction at a time; no repeated requests, since a repetition is how a late answer finds the wrong request; the
library neither closes a connection for silent units (it would after a few time-outs, and cut their neighbours off) nor
reconnects. An answer of another unit, function or length is no answer. What pymodbus 3.16 does otherwise: docs/METERS.md.
Not here: who may ask when, time-outs' consequences (`link`).
"""

from __future__ import annotations

import errno
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.modbus.errors import Refused
from edge_agent.modbus.target import BusTarget

if TYPE_CHECKING:
    from pymodbus.client.base import ModbusBaseClient

COILS, DISCRETE_INPUTS, HOLDING_REGISTERS, INPUT_REGISTERS = 1, 2, 3, 4
READ_FUNCTIONS = (COILS, DISCRETE_INPUTS, HOLDING_REGISTERS, INPUT_REGISTERS)
MAX_REGISTERS, MAX_BITS = 125, 2000
"""Most of each that one answer can carry (Modbus Application Protocol V1.1b3 sections 6.1 to 6.4)."""
NEVER = 2**31
"""Time-outs after which the library would close the connection by itself."""


class Unreachable(Exception):
    """The port cannot be opened; the text says why and what to do, and follows the name of the port."""


class NoAnswer(Exception):
    """Nothing came in time, or the connection ended."""


class Garbled(Exception):
    """What came is no answer to the question."""


class Connection:
    """A connection from `open` to `close`."""

    def __init__(self, target: BusTarget, client: ModbusBaseClient) -> None:
        self._target, self._client = target, client
        self.last_byte_at = 0.0
        """When anything last arrived (monotonic seconds)."""

    @property
    def is_open(self) -> bool:
        """Whether neither side has closed it."""
        return self._client.connected

    def close(self) -> None:
        self._client.close()

    async def read(self, unit: int, function: int, address: int, count: int) -> tuple[int, ...]:
        """`count` registers, or bits as 0 and 1; raises NoAnswer, Garbled or Refused."""
        from pymodbus.exceptions import ModbusException

        ask = {
            COILS: self._client.read_coils,
            DISCRETE_INPUTS: self._client.read_discrete_inputs,
            HOLDING_REGISTERS: self._client.read_holding_registers,
            INPUT_REGISTERS: self._client.read_input_registers,
        }[function]
        try:
            answer = await ask(address, count=count, device_id=unit)
        except (ModbusException, TimeoutError, OSError) as error:
            raise NoAnswer from error
        except Exception as error:
            raise Garbled(f"sent something that is no Modbus answer ({error}); check port and transport") from error
        return _checked(answer, function, count)

    def _noticed(self, sending: bool, data: bytes) -> bytes:
        if not sending:
            self.last_byte_at = time.monotonic()
        return data


def _checked(answer: Any, function: int, count: int) -> tuple[int, ...]:
    if answer.isError():
        code = int(getattr(answer, "exception_code", 0))
        raise Refused(f"exception {code}", code)
    if answer.function_code != function:
        raise Garbled(f"answered function {answer.function_code} instead of {function}")
    if function in (COILS, DISCRETE_INPUTS):
        if len(answer.bits) != -(-count // 8) * 8:
            raise Garbled(f"sent {len(answer.bits)} bits instead of {count}")
        return tuple(int(bit) for bit in answer.bits[:count])
    if len(answer.registers) != count:
        raise Garbled(f"sent {len(answer.registers)} registers instead of {count}")
    return tuple(int(register) for register in answer.registers)


async def open_connection(target: BusTarget) -> Connection:
    """The connection to a bus; Unreachable when there is none to be had."""
    _tame_library()
    noticed: list[Connection] = []

    def trace(sending: bool, data: bytes) -> bytes:
        return noticed[0]._noticed(sending, data) if noticed else data

    client = _client(target, trace)
    client.set_max_no_responses(NEVER)
    try:
        reached = await client.connect()
    except OSError:
        reached = False
    if not reached:
        client.close()
        raise Unreachable(why_unreachable(target))
    noticed.append(Connection(target, client))
    return noticed[0]


def _client(target: BusTarget, trace: Any) -> ModbusBaseClient:
    from pymodbus.framer import FramerType

    common: dict[str, Any] = {
        "timeout": target.timeout_s,
        "retries": 0,
        "reconnect_delay": 0,
        "trace_packet": trace,
    }
    if target.transport == "rtu":
        from pymodbus.client import AsyncModbusSerialClient

        line: dict[str, Any] = {"baudrate": target.baud, "parity": target.parity, "stopbits": target.stop_bits}
        return AsyncModbusSerialClient(target.serial, framer=FramerType.RTU, **line, **common)
    from pymodbus.client import AsyncModbusTcpClient

    framer = FramerType.RTU if target.transport == "rtu_over_tcp" else FramerType.SOCKET
    return AsyncModbusTcpClient(target.host, port=target.port, framer=framer, **common)


def why_unreachable(target: BusTarget) -> str:
    """Why a port could not be opened, as far as can be seen from outside, and what to do."""
    if target.transport != "rtu":
        return "cannot be reached; check host and port, and that it is on"
    try:
        descriptor = os.open(target.serial, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        return _why_not_opened(target.serial, error)
    try:
        if not os.isatty(descriptor):
            return "is no serial port; check the path"
    finally:
        os.close(descriptor)
    return "is in use by another program; stop that program, or let it read through the agent ([proxy])"


def _why_not_opened(path: str, error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"may not be opened by this user; add the user to the group {_group_of(path)} and log in again"
    if error.errno == errno.ENOENT:
        return "does not exist; plug the adapter in, or correct the path"
    if error.errno == errno.EBUSY:
        return "is in use by another program; stop that program, or let it read through the agent ([proxy])"
    return f"cannot be opened ({error.strerror}); check adapter and path"


def _group_of(path: str) -> str:
    try:
        return Path(path).group()
    except (KeyError, OSError):
        return "dialout"


def _tame_library() -> None:
    """The library writes whole frame dumps for any error; the link reports each error itself."""
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL + 1)
