"""Asset numbers of notes: kind + 4 * id, as the circuits read them.

Rules: kind 0 is a plain asset whose id is a token address (0 is PETH, so PETH is asset 0); kinds 1 and 2 are energy,
whose id is microgrid (32 bits), day (32 bits) and tariff band (8 bits); kind 3 does not exist.
Not here: who may hold which.
"""

from __future__ import annotations

from enum import IntEnum

ADDRESS_BYTES = 20
MICROGRID_BITS = 32
DAY_BITS = 32
BAND_BITS = 8
PETH = 0


class Kind(IntEnum):
    """The low two bits of an asset number."""

    PLAIN = 0
    SUPPLY = 1
    DELIVERY = 2


def token_asset(address: bytes) -> int:
    """The asset of a token on the plasma chain; 20 zero bytes are PETH."""
    if len(address) != ADDRESS_BYTES:
        raise ValueError(f"a token address has {ADDRESS_BYTES} bytes, not {len(address)}")
    return int.from_bytes(address, "big") << 2 | Kind.PLAIN


def energy_asset(kind: Kind, microgrid: int, day: int, band: int) -> int:
    """The asset of one day's energy in one tariff band of a microgrid."""
    if kind not in (Kind.SUPPLY, Kind.DELIVERY):
        raise ValueError("an energy asset is of kind SUPPLY or DELIVERY")
    parts = (("microgrid", microgrid, MICROGRID_BITS), ("day", day, DAY_BITS), ("band", band, BAND_BITS))
    for name, value, bits in parts:
        if not 0 <= value < 1 << bits:
            raise ValueError(f"{name} {value} does not fit {bits} bits")
    return (microgrid << DAY_BITS + BAND_BITS | day << BAND_BITS | band) << 2 | kind


def kind_of(asset: int) -> Kind:
    """ValueError for kind 3."""
    return Kind(asset & 3)
