"""An independent Modbus TCP reader on a plain socket, written from the protocol text, to check the simulator."""

from __future__ import annotations

import socket
import struct


class RawModbus:
    """Reads input registers; `exception` is the code of the last refusal, 0 when the answer was good."""

    def __init__(self, port: int, unit: int = 1, timeout: float = 2.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.unit, self.exception, self._transaction = unit, 0, 0

    def close(self) -> None:
        self.socket.close()

    def request(self, pdu: bytes) -> bytes:
        self._transaction += 1
        self.socket.sendall(struct.pack(">HHHB", self._transaction, 0, len(pdu) + 1, self.unit) + pdu)
        transaction, protocol, length, unit = struct.unpack(">HHHB", self._exactly(7))
        assert (transaction, protocol, unit) == (self._transaction, 0, self.unit)
        return self._exactly(length - 1)

    def registers(self, address: int, count: int, function: int = 4) -> list[int]:
        answer = self.request(struct.pack(">BHH", function, address, count))
        self.exception = answer[1] if answer[0] & 0x80 else 0
        if self.exception:
            return []
        assert answer[0] == function and answer[1] == len(answer) - 2
        return list(struct.unpack(f">{answer[1] // 2}H", answer[2:]))

    def floats(self, address: int, count: int) -> list[float]:
        registers = self.registers(address, 2 * count)
        return list(struct.unpack(f">{count}f", struct.pack(f">{2 * count}H", *registers)))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise ConnectionError("the meter closed the connection")
            data += part
        return data
