"""What one meter's addresses answer to whoever has a session for it.

    GET  /                the page, whole            GET  /part/power      what the page's script puts in
    GET  /api/now, /api/energy, /api/forecast, /api/cheapest, /api/statements    for scripts
    GET  /energy.csv, /statements.csv?by=days|periods                            with units

Rules: it knows its own meter's configuration and no other; nothing of a request says which meter is meant. No GET changes
anything. Not here: who gets in, and to which meter (`pages`), what the sections look like (`sections`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from zoneinfo import ZoneInfo

from edge_agent.config import AgentConfig
from edge_agent.page import answers, http, views
from edge_agent.page.forecasts import COMPUTING, Forecasts
from edge_agent.page.home import Home
from edge_agent.page.http import BadRequest, Request, Response
from edge_agent.page.sections import Sections
from edge_agent.page.text import LANGUAGES

SHOWN_QUANTITY = "net_energy"
"""Of which a forecast tells the home's own surplus."""
AGAIN_SECONDS = 5
"""A browser asks again by itself while the forecast is being made."""
Footer = Callable[[str, ZoneInfo], str]
"""What the page says of itself at its foot, in a language and a time zone."""


class Inside:
    """One home's page. one_child: see `Forecasts`."""

    def __init__(self, config: AgentConfig, one_child: asyncio.Lock) -> None:
        self._config = config
        self._home = Home(config)
        self._forecasts = Forecasts(config, one_child)

    async def stop(self) -> None:
        await self._forecasts.stop()

    async def answer(self, request: Request, lang: str, wall: float, footer: Footer) -> Response:
        """The answer to a GET at a wall second. Raises BadRequest."""
        match request.path:
            case "/":
                return await self._page(lang, wall, footer)
            case "/part/power":
                kind, lines = self._sections(lang).power(await asyncio.to_thread(self._home.energy, wall))
                return http.as_json({"kind": kind, "lines": lines})
            case "/api/now":
                return http.as_json(answers.now(await asyncio.to_thread(self._home.energy, wall), lang))
            case "/api/energy":
                return http.as_json(answers.energy(await asyncio.to_thread(self._home.energy, wall), lang))
            case "/api/forecast":
                return http.as_json(answers.forecast(await self._forecast(wall), lang))
            case "/api/cheapest":
                return http.as_json(answers.cheapest(await self._cheapest(wall, await self._forecast(wall)), lang))
            case "/api/statements":
                return http.as_json(answers.statements(await asyncio.to_thread(self._home.statements, wall), lang))
            case "/energy.csv":
                return _csv("energy", answers.days_csv((await asyncio.to_thread(self._home.energy, wall)).days))
            case "/statements.csv":
                return await self._statements_csv(request.query.get("by", "days"), wall)
        raise BadRequest("there is nothing at this address", HTTPStatus.NOT_FOUND)

    async def _statements_csv(self, by: str, wall: float) -> Response:
        if by not in ("days", "periods"):
            raise BadRequest("by is days or periods")
        found = await asyncio.to_thread(self._home.statements, wall)
        return _csv(f"statements-{by}", answers.lines_csv(found.days if by == "days" else found.periods))

    async def _forecast(self, wall: float) -> dict[str, Any]:
        return await self._forecasts.get(self._home.clock.at(wall))

    async def _cheapest(self, wall: float, forecast: dict[str, Any]) -> Any:
        rows = forecast["next"] if forecast.get("quantity") == SHOWN_QUANTITY else []
        return await asyncio.to_thread(self._home.cheapest, wall, rows)

    def _sections(self, lang: str) -> Sections:
        return Sections(LANGUAGES[lang], self._home.zone)

    async def _page(self, lang: str, wall: float, footer: Footer) -> Response:
        forecast = await self._forecast(wall)
        energy = await asyncio.to_thread(self._home.energy, wall)
        statements = await asyncio.to_thread(self._home.statements, wall)
        cheapest, made = await self._cheapest(wall, forecast), self._sections(lang)
        parts = [
            made.now(energy),
            made.hours(cheapest),
            made.forecast(forecast),
            made.days(energy),
            made.statements(statements),
        ]
        home, device, zone = self._config.home, self._config.device.name, self._home.zone
        page = views.page(lang, device, home.microgrid, self._home.clock.at(wall), zone, parts, [footer(lang, zone)])
        computing = forecast["unknown"] is not None and forecast["unknown"]["key"] == COMPUTING
        return http.html(page, headers={"Refresh": str(AGAIN_SECONDS)} if computing else None)


def _csv(name: str, table: str) -> Response:
    named = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return Response(HTTPStatus.OK, table.encode(), "text/csv; charset=utf-8", named)
