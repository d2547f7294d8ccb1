"""The operator's view of forecasts: for each microgrid what was, what had been forecast for it, and what comes.

Section `forecast` of the board: microgrids[{id, made_by, model_id, model_hash, as_of, actual[[t, Wh]],
day_ahead[[t, p10, p50, p90]], next[[t, p10, p50, p90]], missing?}]; t is unix seconds of the hour's start, an hour without a
value is left out. `day_ahead` is what was first forecast for the hour, a day ahead wherever this hub ran then.
Not here: drawing (`hub/console/static/js`).
"""

from __future__ import annotations

from typing import Any

from hub.inference.desk import SECONDS_PER_HOUR, ForecastDesk, NoForecast, Outlook
from hub.inference.history import HistoryStore, MadeForecast
from hub.inference.models import DEMAND, ModelKey
from openmg.forecast.spec import HOURS_PER_DAY

PAST_HOURS = 48
MAX_SHOWN = 16
"""Microgrids on the board; 16 of them have some 60 kB."""


def made_of(outlook: Outlook) -> list[MadeForecast]:
    """A forecast of hours as it is remembered."""
    as_of_hour = outlook.as_of_s // SECONDS_PER_HOUR
    return [
        MadeForecast(s.start_s // SECONDS_PER_HOUR, as_of_hour, outlook.model_hash, s.mean, s.p10, s.p50, s.p90)
        for s in outlook.steps
    ]


def forecast_section(history: HistoryStore, desk: ForecastDesk) -> dict[str, Any]:
    """The section as of now; forecasts of the next day that are new are remembered on the way."""
    return {"microgrids": [_microgrid(history, desk, microgrid) for microgrid in desk.microgrids[:MAX_SHOWN]]}


def _microgrid(history: HistoryStore, desk: ForecastDesk, microgrid: int) -> dict[str, Any]:
    row: dict[str, Any] = {"id": microgrid, "made_by": None, "next": []}
    net = history.net(microgrid, PAST_HOURS)
    end = net.end_hour
    try:
        outlook = desk.outlook(ModelKey(DEMAND, microgrid, HOURS_PER_DAY))
    except NoForecast as error:
        row["missing"] = error.error
    else:
        history.keep_forecasts(microgrid, made_of(outlook))
        row |= {
            "made_by": outlook.made_by,
            "model_id": outlook.model_id,
            "model_hash": "0x" + outlook.model_hash.hex(),
            "as_of": outlook.as_of_s,
            "next": [[step.start_s, step.p10, step.p50, step.p90] for step in outlook.steps],
        }
    actual = enumerate(net.values, net.start_hour)
    made = history.forecasts(microgrid, net.start_hour, end)
    row["actual"] = [[hour * SECONDS_PER_HOUR, wh] for hour, wh in actual if wh is not None]
    row["day_ahead"] = [[hour * SECONDS_PER_HOUR, m.p10_wh, m.p50_wh, m.p90_wh] for hour, m in sorted(made.items())]
    return row
