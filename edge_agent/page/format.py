"""Numbers and times as people read them. Pure; exact until the last step. Not here: sentences (`text`)."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from openmg.units import WEI_PER_ETH, WH_PER_KWH

FEW_WEI, SMALL_WEI = 10**6, 10**14
"""Below: plain wei, and gwei."""
WEI_PER_GWEI = 10**9
DIGITS = 4
MINUS = "\u2212"


def kwh(energy_wh: int) -> str:
    """With two decimals, without unit."""
    return signed(f"{Decimal(energy_wh) / WH_PER_KWH:,.2f}")


def whole(number: int) -> str:
    return signed(f"{number:,}")


def signed(text: str) -> str:
    """With a real minus sign, which screen readers say."""
    return text.replace("-", MINUS)


def peth(wei: int) -> str:
    """An amount in the unit in which it is easily read."""
    size = abs(wei)
    if size < FEW_WEI:
        return f"{whole(wei)} wei"
    by, unit = (WEI_PER_GWEI, "gwei") if size < SMALL_WEI else (WEI_PER_ETH, "PETH")
    value = Decimal(wei) / by
    places = max(0, DIGITS - 1 - value.adjusted())
    return signed(f"{value:,.{places}f}") + f" {unit}"


def clock_time(seconds: float, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(seconds, zone).strftime("%H:%M")


def moment(seconds: float, zone: ZoneInfo) -> str:
    """Day and time."""
    return datetime.fromtimestamp(seconds, zone).strftime("%Y-%m-%d %H:%M")
