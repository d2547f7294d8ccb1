"""The page's forecast follows its home: held against `corrected` over every forecast of the past, and bounded."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from page_kit import SLOT, T0, fill_store

from edge_agent.learning.personal import personalise
from edge_agent.page.history import History
from edge_agent.page.outlook import Agreed, agreed_model, outlook
from openmg.forecast.drift import FOLLOWED_DAYS, corrected
from openmg.forecast.features import Almanac, Series, build_windows, inputs_and_base, series
from openmg.forecast.loss import heads, ordered
from openmg.forecast.quantities import metered_wh
from openmg.forecast.trainer_numpy import NumpyTrainer
from openmg.member.spans import spans_of
from openmg.units import SLOTS_PER_DAY

SEOUL = ZoneInfo("Asia/Seoul")
READ_DAYS = 1 + 4 * 7
"""Before its origin a forecast reads four weeks at the most; its errors are known a day later."""


def net_energy(row) -> int:
    return metered_wh("net_energy", row.import_wh, row.export_wh)


class Oracle:
    """What each past forecast of a home would have said, hour by hour, and what drift makes of them all."""

    def __init__(self, agreed: Agreed, history: History) -> None:
        plan, self.spec = agreed.plan, agreed.plan.spec
        self.first, known = history.energy_wh(60, net_energy)
        self.trainer, values = NumpyTrainer(self.spec), series(known)
        spans = spans_of(plan, lambda _: (self.first, known))
        seed = int.from_bytes(agreed.notice.model_hash[:4], "big")
        self.weights, self.standard = personalise(self.trainer, agreed.master, spans, seed).weights, spans.standard
        almanac = Almanac(frozenset(plan.holiday_days), plan.utc_offset_hours)
        self.of = Series(self.standard.apply(values), self.first, almanac)
        last = len(values) - self.spec.horizon_steps
        self.windows = build_windows(self.spec, self.of, np.arange(self.spec.min_history_steps, last + 1))

    def forecast(self, origin_step: int, follow: bool) -> np.ndarray:
        """Rows of mean and quantiles in Wh [4, H] from a step that has no gap before it."""
        origin, windows = origin_step - self.first, self.windows
        inputs, base = inputs_and_base(self.spec, self.of, np.array([origin]))
        past = windows.origins < origin
        output = self.trainer.predict(self.weights, np.vstack([windows.inputs[past], inputs]).astype(np.float32))
        if follow:
            residual = np.vstack([windows.residual[past], np.full((1, self.spec.horizon_steps), np.nan, np.float32)])
            output = corrected(self.spec, self.first + np.append(windows.origins[past], origin), output, residual)
        mean, quantiles = heads(output[-1:])
        return self.standard.undo(np.vstack([base + mean, base + ordered(quantiles)[0]]))


def test_the_outlook_is_what_drift_makes_of_all_past_forecasts(full_home: Path) -> None:
    """Of a home with six weeks and a gap; without drift the same forecast is another one."""
    folder = full_home.parent / "state"
    agreed = agreed_model(folder)
    assert agreed is not None
    with History(folder / "store.sqlite") as history:
        answer, oracle = outlook(history, folder, SEOUL, float(T0)), Oracle(agreed, history)
    for part in ("next", "yesterday"):
        origin_step = answer[part][0][0] // 3600
        followed, plain = (oracle.forecast(origin_step, follow) for follow in (True, False))
        rows = np.array(answer[part])[:, 1:].T
        assert rows.shape == followed.shape and np.abs(rows - followed).max() <= 1, "up to the rounding to whole Wh"
        assert np.abs(rows - plain).max() > 10


def test_what_lies_before_the_followed_days_is_not_read(tmp_path: Path, full_home: Path) -> None:
    """Changes of what is older change nothing; later ones do."""
    days = FOLLOWED_DAYS + READ_DAYS + 4
    oldest = SLOT - days * SLOTS_PER_DAY
    fill_store(tmp_path, days).close()
    for model in (full_home.parent / "state").glob("*.agreed"):
        shutil.copy(model, tmp_path)
    answers = []
    for changed in (range(0), range(2), range(2, 12)):  # days since the oldest
        with sqlite3.connect(tmp_path / "store.sqlite") as db:
            first, end = (oldest + day * SLOTS_PER_DAY for day in (changed.start, changed.stop))
            db.execute("UPDATE slots SET import_wh = import_wh + 700 WHERE slot >= ? AND slot < ?", (first, end))
        db.close()
        with History(tmp_path / "store.sqlite") as history:
            found = outlook(history, tmp_path, SEOUL, float(T0))
        answers.append((found["next"], found["yesterday"]))
    assert answers[0] == answers[1] and len(answers[0][0]) == 24
    assert answers[0] != answers[2]
