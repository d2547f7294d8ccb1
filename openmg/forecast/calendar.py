"""Weekdays and public holidays as integers: an hour is whole hours since 1970 (UTC), a day is whole local days.

Rules: local time is UTC plus a fixed whole number of hours (Korea: 9, no summer time), so no time zone database is
needed. The list of holidays is data: a learning plan carries it, so that meters and replicas see the same calendar.
Not here: the shape of the calendar features (`features`, `fixedpoint`).
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

DAYS_PER_YEAR = 365.2425
KOREA_UTC_OFFSET_HOURS = 9
_DAY_ZERO_WEEKDAY = 3
"""1970-01-01 was a Thursday; Monday counts 0."""
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


def local_day(hour: int, utc_offset_hours: int = KOREA_UTC_OFFSET_HOURS) -> int:
    """Days from 1970-01-01 to the local day in which the hour lies."""
    return (hour + utc_offset_hours) // 24


def local_hour_of_day(hour: int, utc_offset_hours: int = KOREA_UTC_OFFSET_HOURS) -> int:
    """0..23, the local clock's hour."""
    return (hour + utc_offset_hours) % 24


def weekday(day: int) -> int:
    """0 = Monday .. 6 = Sunday of a day counted from 1970-01-01."""
    return (day + _DAY_ZERO_WEEKDAY) % 7


def weekday_of(days: I64) -> I64:
    """`weekday` of an array of days."""
    return (days + _DAY_ZERO_WEEKDAY) % 7


def annual_waves(days: I64) -> tuple[F64, F64]:
    """sin and cos of the year's course on these days, for training and forecasting in float."""
    angle = 2 * np.pi * days / DAYS_PER_YEAR
    return np.sin(angle), np.cos(angle)


def date_of(day: int) -> date:
    return date.fromordinal(_EPOCH_ORDINAL + day)


def korean_holidays(first_year: int, last_year: int) -> tuple[int, ...]:
    """Days of the public holidays of the Republic of Korea in these years, ascending. Raises as `public_holidays`."""
    return public_holidays("KR", first_year, last_year)


@lru_cache(maxsize=16)
def public_holidays(country: str, first_year: int, last_year: int) -> tuple[int, ...]:
    """Days of a country's (ISO 3166, with a subdivision after a hyphen) public holidays in these years, ascending.

    Imports `holidays` when first called (15 MB): for whoever writes a plan, never for the program on the meter.
    Raises ValueError for a country that the package does not know, or years outside 1948..2099.
    """
    if not 1948 <= first_year <= last_year <= 2099:
        raise ValueError(f"calendar: years {first_year}..{last_year} are not within 1948..2099; give a shorter span")
    import holidays

    name, _, subdivision = country.partition("-")
    try:
        days = holidays.country_holidays(name, subdivision or None, years=range(first_year, last_year + 1))
    except NotImplementedError as error:
        raise ValueError(f"calendar: no public holidays are known for {country!r}; give a code like KR or GB-ENG") from error
    return tuple(sorted(day.toordinal() - _EPOCH_ORDINAL for day in days))
