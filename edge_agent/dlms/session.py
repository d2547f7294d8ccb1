"""One connection with its association: registers asked for one after the other.

Rules: after any failure, and after a caller that went away in between, the session is of no more use, since a late answer must
not become the next one's. Scaler and unit of a register are read once a session, before its first value. Not here: when to
begin another session (`link`), the APDUs (`association`), how they travel (`wrapper`, `hdlc_carrier`).
"""

from __future__ import annotations

from edge_agent.dlms.association import Association, Denied
from edge_agent.dlms.carrier import Carrier
from edge_agent.dlms.counter import InvocationCounter
from edge_agent.dlms.values import NoRegister, Scale
from edge_agent.dlms_section import DlmsSection, Obis

VALUE, SCALER_UNIT = 2, 3


class Session:
    """Use after `open`, until the first failure (then `abandon`) or `close`."""

    def __init__(self, section: DlmsSection, counter: InvocationCounter | None, carrier: Carrier) -> None:
        self._association = Association(section, counter)
        self._carrier = carrier
        self._scales: dict[Obis, Scale] = {}

    async def open(self) -> None:
        """Connects and associates; NoAnswer, Denied, Garbled or CounterError."""
        await self._carrier.open()
        proof = self._association.accept(await self._carrier.exchange(self._association.request()))
        if proof is not None:
            self._association.confirm(await self._carrier.exchange(proof))

    async def whole(self, obis: Obis, unit: int) -> int:
        """A register in whole W or Wh; NoAnswer, Denied, Garbled or CounterError."""
        name = ".".join(map(str, obis))
        try:
            if obis not in self._scales:
                self._scales[obis] = Scale.of(await self._attribute(obis, SCALER_UNIT))
            return self._scales[obis].whole(await self._attribute(obis, VALUE), unit)
        except NoRegister as error:
            raise Denied(f"register {name} {error}; correct [meter.dlms]") from error
        except Denied as error:
            raise Denied(f"register {name} {error}") from error

    def abandon(self) -> None:
        """Ends the connection at once."""
        self._carrier.abandon()

    async def close(self) -> None:
        """Ends the connection, and with it the association; no release is asked for."""
        await self._carrier.close()

    async def _attribute(self, obis: Obis, attribute: int) -> int | list[int] | bytes:
        return self._association.value(await self._carrier.exchange(self._association.get(obis, attribute)))
