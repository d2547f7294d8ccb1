"""Prints the API's OpenAPI document, of which docs/openapi-inference.json is a copy: `python -m hub.inference.api.document`."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from hub.inference.api.app import ApiState, VouchedWay, create_api
from hub.inference.desk import ForecastDesk
from hub.inference.history import HistoryStore
from hub.inference.keys import KeyStore
from hub.inference.ledger import Ledger
from hub.inference.trainer_job import TrainerJob
from hub.ppdl.application import QueryResult
from openmg.forecast.features import Almanac


def openapi_text() -> str:
    """The document as it is committed: sorted, two spaces, one newline at the end."""
    with tempfile.TemporaryDirectory() as folder:
        history, keys = HistoryStore(Path(folder) / "history.sqlite"), KeyStore(Path(folder) / "keys.sqlite")
        job = TrainerJob(history, (), {}, lambda _: Almanac(), lambda: 0, 1, lambda _: None, lambda: None)
        desk = ForecastDesk(history, lambda _: QueryResult(False), (), {}, {}, lambda _: Almanac(), lambda: 0.0)
        app = create_api(ApiState(desk, job, keys, Ledger(keys), {}, VouchedWay(0, 0, bytes(20)), lambda: 0.0))
        document = app.openapi()
        history.close()
        keys.close()
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(openapi_text())
