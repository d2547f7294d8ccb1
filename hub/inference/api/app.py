"""The inference API: forecasts of demand, generation and price over HTTP, for holders of a key.

    GET /v1/demand      net energy of a microgrid, 24, 48 or 72 hours ahead, with reserve margins
    GET /v1/generation  energy that its homes export            GET /v1/price   price of its pool, the next day by slot
    GET /v1/models      which models there are                  GET /v1/usage   calls and fees of the asking key
    GET /openapi.json   this interface, for programs            GET /healthz    liveness, for a supervisor

Rules. It only reads; an error is {error, what_to_do}, one sentence each, whatever was sent. Only an answered forecast is
charged. No answer may be kept by a cache or read by a page of another site.
Not here: keys and limits (`gate`), forecasts (`hub.inference.desk`), the server (`hub.console.server`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import Response

from hub.inference.api.answers import (
    AgreedLine,
    DemandAnswer,
    ErrorAnswer,
    GenerationAnswer,
    Horizon,
    HourDemand,
    HourGeneration,
    ModelLine,
    ModelsAnswer,
    PriceAnswer,
    SlotPrice,
    SmallestMargin,
    UsageAnswer,
    UsageDay,
    WhereVouched,
    moment,
)
from hub.inference.api.gate import Gate, Refusal
from hub.inference.database import InferenceStoreError
from hub.inference.desk import SECONDS_PER_HOUR, ForecastDesk, NoForecast, Outlook, UnknownMicrogrid
from hub.inference.keys import ApiKey, KeyStore
from hub.inference.ledger import Ledger
from hub.inference.models import DEMAND, GENERATION, PRICE, ModelKey
from hub.inference.outlook import reserve_margin_milli, tightest
from hub.inference.quota import day_of
from hub.inference.trainer_job import TrainerJob
from openmg.forecast.spec import HOURS_PER_DAY
from openmg.units import SLOT_SECONDS

log = logging.getLogger(__name__)

API_VERSION = "1.0.0"
MAX_MICROGRID = 2**31 - 1
USAGE_DAYS = 31
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
RESPONSES: dict[int | str, dict[str, object]] = {
    401: {"model": ErrorAnswer, "description": "no right key"},
    404: {"model": ErrorAnswer, "description": "not served here"},
    422: {"model": ErrorAnswer, "description": "a parameter cannot be used"},
    429: {"model": ErrorAnswer, "description": "too often; see Retry-After"},
    503: {"model": ErrorAnswer, "description": "no forecast now"},
}


@dataclass(frozen=True)
class VouchedWay:
    """Where a quorum-signed answer is asked for: PPDL chain, plasma chain and the address of `Inference`."""

    ppdl_chain_id: int
    plasma_chain_id: int
    contract: bytes

    def answer(self) -> WhereVouched:
        return WhereVouched(
            plasma_chain_id=self.plasma_chain_id, contract="0x" + self.contract.hex(), ppdl_chain_id=self.ppdl_chain_id
        )


@dataclass(frozen=True)
class ApiState:
    """What the API answers from; `wall_s` is unix seconds, for limits and invoices."""

    desk: ForecastDesk
    job: TrainerJob
    keys: KeyStore
    ledger: Ledger
    capacities_w: Mapping[int, int]
    vouched: VouchedWay
    wall_s: Callable[[], float]


@dataclass(frozen=True)
class Caller:
    """An admitted call: its key, its endpoint and when it was counted."""

    key: ApiKey
    endpoint: str
    admitted_s: int


Microgrid = Annotated[int, Query(ge=1, le=MAX_MICROGRID, description="the microgrid's number")]
HorizonHours = Annotated[Horizon, Query(description="how many hours ahead")]
_bearer = HTTPBearer(auto_error=False, description="a key that `openmg-hub api-key create` printed")


def _caller(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]) -> Caller:
    """Runs in a worker thread, before parameters are looked at. Raises Refusal."""
    endpoint = request.url.path.removeprefix("/v1/")
    headers = request.headers.getlist("authorization")
    address = request.client.host if request.client else ""
    key, admitted_s = request.app.state.gate.admit(headers[0] if len(headers) == 1 else None, address, endpoint)
    return Caller(key, endpoint, admitted_s)


Asking = Annotated[Caller, Depends(_caller)]


def create_api(state: ApiState) -> FastAPI:
    """The API as an ASGI application."""
    app = FastAPI(
        title="Open MG inference",
        version=API_VERSION,
        description="Forecasts of a hub's microgrids, with the model and the chain height that each rests on.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.gate = Gate(state.keys, state.ledger, state.wall_s)
    _add_errors(app)
    _add_forecasts(app, state)
    _add_lists(app, state)
    _add_open(app)
    return app


def _add_forecasts(app: FastAPI, state: ApiState) -> None:
    @app.get("/v1/demand", responses=RESPONSES)
    def demand(caller: Asking, microgrid: Microgrid, horizon_hours: HorizonHours = Horizon.DAY) -> DemandAnswer:
        """Net energy of each hour ahead, its quantiles, and how much of the connection stays free."""
        with _charged(state, caller):
            outlook = state.desk.outlook(ModelKey(DEMAND, microgrid, int(horizon_hours)))
            return demand_answer(outlook, state.capacities_w.get(microgrid), state.vouched)

    @app.get("/v1/generation", responses=RESPONSES)
    def generation(caller: Asking, microgrid: Microgrid, horizon_hours: HorizonHours = Horizon.DAY) -> GenerationAnswer:
        """Energy that the homes will export in each hour ahead."""
        with _charged(state, caller):
            outlook = state.desk.outlook(ModelKey(GENERATION, microgrid, int(horizon_hours)))
            hours = [
                HourGeneration(start=moment(s.start_s), p10_wh=s.p10, p50_wh=s.p50, p90_wh=s.p90, mean_wh=s.mean)
                for s in outlook.steps
            ]
            return GenerationAnswer(hours=hours, **_origin(outlook, state.vouched))  # type: ignore[arg-type]

    @app.get("/v1/price", responses=RESPONSES)
    def price(caller: Asking, microgrid: Microgrid) -> PriceAnswer:
        """Price of the pool in each slot of the next day."""
        with _charged(state, caller):
            outlook = state.desk.outlook(ModelKey(PRICE, microgrid, HOURS_PER_DAY))
            slots = [
                SlotPrice(
                    slot=s.start_s // SLOT_SECONDS,
                    start=moment(s.start_s),
                    p10_wei_per_wh=s.p10,
                    p50_wei_per_wh=s.p50,
                    p90_wei_per_wh=s.p90,
                    mean_wei_per_wh=s.mean,
                )
                for s in outlook.steps
            ]
            return PriceAnswer(slots=slots, **_origin(outlook, state.vouched))  # type: ignore[arg-type]


@contextmanager
def _charged(state: ApiState, caller: Caller) -> Iterator[None]:
    """Charges the call when its answer was made."""
    yield
    state.ledger.charge(caller.key, caller.endpoint, caller.admitted_s)


def _add_lists(app: FastAPI, state: ApiState) -> None:
    @app.get("/v1/models", responses=RESPONSES)
    def models(caller: Asking) -> ModelsAnswer:
        """Every model of this hub: its name, when it was trained, or what it lacks; then those the chain agrees on."""
        lines = [_model_line(state.job, key) for key in state.job.keys]
        return ModelsAnswer(ppdl_height=state.desk.height, models=lines, agreed=_agreed_lines(state.desk))

    @app.get("/v1/usage", responses=RESPONSES)
    def usage(caller: Asking) -> UsageAnswer:
        """Calls and fees of the asking key in the latest 31 days."""
        key, today = caller.key, day_of(caller.admitted_s)
        lines = state.ledger.lines(today - USAGE_DAYS + 1, today, key.id)
        return UsageAnswer(
            key_id=key.id,
            name=key.name,
            requests_per_minute=key.per_minute,
            daily=key.daily,
            calls_today=state.ledger.calls_on(key, today),
            fee_wei_per_call=str(key.fee_wei),
            fees_wei=str(sum(line.fee_wei for line in lines)),
            days=[
                UsageDay(
                    day=(moment(0) + timedelta(days=line.day)).date(),
                    endpoint=line.endpoint,
                    calls=line.calls,
                    charged=line.charged,
                    fee_wei=str(line.fee_wei),
                )
                for line in lines
            ],
        )


def _agreed_lines(desk: ForecastDesk) -> list[AgreedLine]:
    agreed = desk.agreed()
    return [
        AgreedLine(
            model_id=known.model_id,
            quantity=known.quantity,
            model_hash="0x" + known.model_hash.hex(),
            height=agreed.height,
            rounds=known.completed,
            vouched=place == 0,
        )
        for place, known in enumerate(agreed.models)
    ]


def _add_open(app: FastAPI) -> None:
    """What needs no key."""

    @app.get("/openapi.json", include_in_schema=False)
    def document(request: Request) -> JSONResponse:
        request.app.state.gate.stranger(request.client.host if request.client else "")
        return JSONResponse(app.openapi(), headers=HEADERS)

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok"}, headers=HEADERS)


def demand_answer(outlook: Outlook, capacity_w: int | None, vouched: VouchedWay) -> DemandAnswer:
    """The hours with their margins, where the capacity is known."""
    margins = [reserve_margin_milli(capacity_w, step.p90) for step in outlook.steps] if capacity_w else []
    hours = [
        HourDemand(
            start=moment(step.start_s),
            p10_wh=step.p10,
            p50_wh=step.p50,
            p90_wh=step.p90,
            mean_wh=step.mean,
            reserve_margin_milli=margins[place] if margins else None,
        )
        for place, step in enumerate(outlook.steps)
    ]
    smallest = None
    if margins:
        place = tightest(margins)
        smallest = SmallestMargin(start=hours[place].start, reserve_margin_milli=margins[place])
    origin = _origin(outlook, vouched)
    return DemandAnswer(capacity_w=capacity_w, smallest_reserve_margin=smallest, hours=hours, **origin)  # type: ignore[arg-type]


def _origin(outlook: Outlook, vouched: VouchedWay) -> dict[str, object]:
    return {
        "microgrid": outlook.key.microgrid,
        "horizon_hours": outlook.key.horizon_hours,
        "made_by": outlook.made_by,
        "model_id": outlook.model_id,
        "model_hash": "0x" + outlook.model_hash.hex(),
        "ppdl_height": outlook.ppdl_height,
        "as_of": moment(outlook.as_of_s),
        "gaps_filled": outlook.gaps_filled,
        "where_vouched": vouched.answer(),
    }


def _model_line(job: TrainerJob, key: ModelKey) -> ModelLine:
    kept = job.models.get(key)
    return ModelLine(
        kind=key.kind,
        microgrid=key.microgrid,
        horizon_hours=key.horizon_hours,
        model_id=kept.spec.model_id if kept else None,
        model_hash="0x" + kept.model_hash.hex() if kept else None,
        trained_at=moment(kept.trained_hour * SECONDS_PER_HOUR) if kept else None,
        missing=job.missing.get(key, None if kept else f"{key}: the model is not trained yet"),
    )


def _add_errors(app: FastAPI) -> None:
    """Every failure as {error, what_to_do}."""

    @app.middleware("http")
    async def headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        response.headers.update(HEADERS)
        return response

    @app.exception_handler(Refusal)
    async def refused(_: Request, refusal: Refusal) -> JSONResponse:
        more = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
        if refusal.retry_after_s is not None:
            more["Retry-After"] = str(refusal.retry_after_s)
        return _failure(refusal.status, refusal.error, refusal.what_to_do, more)

    @app.exception_handler(NoForecast)
    async def no_forecast(_: Request, error: NoForecast) -> JSONResponse:
        return _failure(404 if isinstance(error, UnknownMicrogrid) else 503, error.error, error.what_to_do)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        name = str(first["loc"][-1])
        return _failure(422, f"{name}: {first['msg']}", f"correct {name}; /openapi.json has the parameters")

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return _failure(error.status_code, str(error.detail), "ask GET on one of the addresses of /openapi.json")

    @app.exception_handler(InferenceStoreError)
    async def store(_: Request, error: InferenceStoreError) -> JSONResponse:
        log.warning("inference: %s", error)
        return _failure(503, "the hub cannot use one of its databases now", "try again later")

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        log.error("inference: a request failed", exc_info=error)
        return _failure(500, "the hub failed to answer; the reason is in its log", "try again later")


def _failure(status: int, error: str, what_to_do: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": error, "what_to_do": what_to_do}, status, headers=HEADERS | dict(headers or {}))
