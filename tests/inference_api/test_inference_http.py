"""The API over real sockets: what is answered, to whom, how often, for what; bad input is a sentence and never a crash."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from forecast_world import CHAIN_ID, CONTRACT, END_HOUR, NOW_WALL, Api, Chain, Trained, serving
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.inference.api.document import openapi_text
from hub.inference.models import DEMAND, GENERATION, ModelKey
from hub.inference.outlook import reserve_margin_milli
from hub.inference.quota import day_of

HASH = re.compile(r"0x[0-9a-f]{64}")


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def is_sentence(answer: httpx.Response) -> bool:
    body = answer.json()
    return set(body) == {"error", "what_to_do"} and all(isinstance(text, str) and text for text in body.values())


@pytest.mark.parametrize("horizon", [24, 48, 72])
async def test_demand_of_each_horizon(api: Api, trained: Trained, horizon: int, chain: Chain):
    answer = await api.get("/v1/demand", microgrid=1, horizon_hours=horizon)
    assert answer.status_code == 200
    body = answer.json()
    kept = trained.models[ModelKey(DEMAND, 1, horizon)]
    assert body["model_hash"] == "0x" + kept.model.model_hash.hex() and body["model_id"] == kept.spec.model_id
    assert (body["made_by"], body["ppdl_height"], body["gaps_filled"]) == ("hub model", chain.height, 0)
    assert body["vouched"] is False
    assert body["where_vouched"]["contract"] == "0x" + CONTRACT.hex()
    assert body["where_vouched"]["ppdl_chain_id"] == CHAIN_ID
    assert seconds(body["as_of"]) == 3600 * END_HOUR
    hours = body["hours"]
    assert [seconds(hour["start"]) for hour in hours] == [3600 * (END_HOUR + n) for n in range(horizon)]
    for hour in hours:
        assert all(isinstance(hour[name], int) for name in ("p10_wh", "p50_wh", "p90_wh", "mean_wh"))
        assert hour["p10_wh"] <= hour["p50_wh"] <= hour["p90_wh"]
        assert hour["reserve_margin_milli"] == reserve_margin_milli(20_000, hour["p90_wh"])
    smallest = min(hours, key=lambda hour: hour["reserve_margin_milli"])
    assert body["smallest_reserve_margin"] == {name: smallest[name] for name in ("start", "reserve_margin_milli")}


async def test_generation(api: Api, trained: Trained):
    body = (await api.get("/v1/generation", microgrid=1)).json()
    assert body["model_hash"] == "0x" + trained.models[ModelKey(GENERATION, 1, 24)].model.model_hash.hex()
    assert len(body["hours"]) == 24 and all(0 <= h["p10_wh"] <= h["p50_wh"] <= h["p90_wh"] for h in body["hours"])


async def test_a_price_is_made_with_the_chains_model_and_names_its_hash_and_height(api: Api, chain: Chain):
    agreed = chain.state.models[2].model.model_hash
    body = (await api.get("/v1/price", microgrid=1)).json()
    assert (body["made_by"], body["model_hash"]) == ("base forecast", "0x" + agreed.hex()), "no round is learnt yet"
    assert (body["ppdl_height"], body["vouched"], body["gaps_filled"]) == (chain.height, False, 0)
    assert all(s["p10_wei_per_wh"] == s["p90_wei_per_wh"] == s["mean_wei_per_wh"] for s in body["slots"])
    base = body["slots"]
    for seed in (1, 2):  # each learnt round is answered with at once
        name = chain.learn_prices(seed)
        body = (await api.get("/v1/price", microgrid=1)).json()
        assert (body["made_by"], body["model_hash"]) == ("agreed chain model", "0x" + name.hex())
        assert (body["model_id"], body["ppdl_height"]) == (chain.env.genesis.plans[2].spec.model_id, chain.height)
        listed = (await api.get("/v1/models")).json()["agreed"][2]
        assert (listed["quantity"], listed["model_hash"], listed["vouched"]) == ("price", body["model_hash"], False)
        assert body["slots"] != base
    slots = body["slots"]
    assert [slot["slot"] for slot in slots] == list(range(4 * END_HOUR, 4 * END_HOUR + 96))
    assert all(seconds(slot["start"]) == 900 * slot["slot"] for slot in slots)
    assert all(0 <= s["p10_wei_per_wh"] <= s["p50_wei_per_wh"] <= s["p90_wei_per_wh"] < 2**53 for s in slots)


async def test_without_a_model_the_chains_own_stands_in_for_a_day_and_is_named(api: Api, chain: Chain):
    body = (await api.get("/v1/demand", microgrid=2)).json()
    assert body["made_by"] == "agreed chain model" and body["ppdl_height"] == chain.height and len(body["hours"]) == 24
    assert body["model_hash"] == "0x" + chain.state.models[0].model.model_hash.hex() and body["vouched"] is False
    assert (body["capacity_w"], body["smallest_reserve_margin"]) == (None, None)  # nobody said what its connection carries
    assert body["hours"][0]["reserve_margin_milli"] is None
    for path, parameters in (("/v1/demand", {"horizon_hours": 48}), ("/v1/generation", {}), ("/v1/price", {})):
        answer = await api.get(path, microgrid=2, **parameters)
        assert answer.status_code == 503 and is_sentence(answer), path


async def test_models_and_what_they_lack(api: Api, trained: Trained):
    lines = (await api.get("/v1/models")).json()["models"]
    assert len(lines) == 12
    for line in lines:
        kept = trained.models.get(ModelKey(line["kind"], line["microgrid"], line["horizon_hours"]))
        assert (line["missing"] is None) == (kept is not None)
        assert line["model_hash"] == (None if kept is None else "0x" + kept.model.model_hash.hex())
        assert kept is None or HASH.fullmatch(line["model_hash"])


async def test_the_models_that_the_chain_agrees_on_are_listed_with_hash_and_height(api: Api, chain: Chain):
    lines = (await api.get("/v1/models")).json()["agreed"]
    assert [(line["quantity"], line["vouched"]) for line in lines] == [
        ("net_energy", True),
        ("export_energy", False),
        ("price", False),
    ]
    for line, learning, plan in zip(lines, chain.state.models, chain.env.genesis.plans, strict=True):
        assert (line["model_id"], line["height"]) == (plan.spec.model_id, chain.height)
        assert line["model_hash"] == "0x" + learning.model.model_hash.hex() and line["rounds"] == 0
    body = (await api.get("/v1/demand", microgrid=2)).json()
    assert body["model_hash"] == lines[0]["model_hash"], "the vouched one stands in"


async def test_usage_counts_calls_and_charges_forecasts_only(api: Api):
    for _ in range(3):
        assert (await api.get("/v1/demand", microgrid=1)).status_code == 200
    assert (await api.get("/v1/demand", microgrid=9)).status_code == 404
    assert (await api.get("/v1/price", microgrid=2)).status_code == 503
    assert (await api.get("/v1/models")).status_code == 200
    body = (await api.get("/v1/usage")).json()
    assert (body["fee_wei_per_call"], body["fees_wei"], body["calls_today"]) == ("7", "21", 7)
    found = {line["endpoint"]: (line["calls"], line["charged"], line["fee_wei"]) for line in body["days"]}
    assert found == {"demand": (4, 3, "21"), "price": (1, 0, "0"), "models": (1, 0, "0"), "usage": (1, 0, "0")}
    (line,) = [line for line in api.ledger.lines(0, day_of(int(NOW_WALL))) if line.endpoint == "demand"]
    assert line.fee_wei == 21


async def test_without_a_right_key_there_is_one_sentence_and_soon_a_wait(api: Api):
    plain = await api.client.get("/v1/demand", params={"microgrid": 1})
    assert plain.status_code == 401 and is_sentence(plain) and plain.headers["www-authenticate"] == "Bearer"
    wrong = await api.get("/v1/demand", key="omg_00000000_" + "A" * 43, microgrid="nonsense")
    assert wrong.status_code == 401 and wrong.json() == plain.json()  # parameters are not looked at for strangers
    statuses = [(await api.get("/v1/models", key="x")).status_code for _ in range(20)]
    assert statuses == [401] * 18 + [429] * 2
    refused = await api.get("/openapi.json", key="x")
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) == 3 and is_sentence(refused)
    assert (await api.get("/v1/models")).status_code == 200  # the same address with a key
    api.wall[0] += 3
    assert (await api.get("/v1/models", key="x")).status_code == 401


async def test_a_key_that_asks_too_often_waits(trained: Trained, history_file: Path, chain: Chain, tmp_path: Path):
    async with serving(tmp_path, chain, history_file, trained.models, per_minute=2, daily=4) as api:
        statuses = [(await api.get("/v1/models")).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        answer = await api.get("/v1/models")
        assert answer.headers["retry-after"] == "30" and is_sentence(answer)
        api.wall[0] += 60
        assert [(await api.get("/v1/models")).status_code for _ in range(2)] == [200, 200]
        api.wall[0] += 60
        answer = await api.get("/v1/models")  # the day's four are used up
        assert answer.status_code == 429 and "times a day" in answer.json()["error"]
        api.wall[0] += int(answer.headers["retry-after"])
        assert (await api.get("/v1/models")).status_code == 200


async def test_a_revoked_key_is_a_strangers(api: Api):
    assert (await api.get("/v1/models")).status_code == 200
    api.keys.revoke("caller", int(NOW_WALL))
    assert (await api.get("/v1/models")).status_code == 401


async def test_many_at_once_cannot_pass_the_days_allowance(trained: Trained, history_file: Path, chain: Chain, tmp_path: Path):
    async with serving(tmp_path, chain, history_file, trained.models, daily=5, fee_wei=1) as api:
        answers = await asyncio.gather(*(api.get("/v1/demand", microgrid=1) for _ in range(20)))
        assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 15
        assert sum(line.charged for line in api.ledger.lines(0, 10**6)) == 5


async def test_nothing_can_be_written_and_nothing_else_is_served(api: Api):
    for path in ("/v1/demand", "/v1/usage", "/openapi.json", "/healthz"):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            answer = await api.client.request(method, path, headers={"Authorization": f"Bearer {api.key}"})
            assert answer.status_code == 405 and is_sentence(answer), (method, path)
    for path in ("/", "/docs", "/redoc", "/v1", "/v1/demand/1", "/v1/%2e%2e/healthz/x"):
        answer = await api.get(path)
        assert answer.status_code == 404 and is_sentence(answer), path


async def test_no_answer_may_be_cached_or_read_by_another_site(api: Api):
    answers = [await api.get(path) for path in ("/v1/models", "/v1/demand", "/nothing", "/healthz", "/openapi.json")]
    for answer in (*answers, await api.get("/v1/models", key="x")):
        assert answer.headers["cache-control"] == "no-store" and answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers and "server" not in answer.headers


async def test_a_database_that_fails_is_a_sentence(api: Api, caplog: pytest.LogCaptureFixture):
    api.history.close()
    answer = await api.get("/v1/demand", microgrid=1)
    assert answer.status_code == 503 and is_sentence(answer) and str(api.history._db.path) not in answer.text


def test_the_committed_document_is_the_one_that_is_served(repo_root: Path):
    committed = (repo_root / "docs" / "openapi-inference.json").read_text(encoding="utf-8")
    assert committed == openapi_text(), "run python -m hub.inference.api.document > docs/openapi-inference.json"


async def test_the_document_says_what_is_answered(api: Api):
    document = (await api.get("/openapi.json")).json()
    assert document == json.loads(openapi_text())
    assert set(document["paths"]) == {f"/v1/{name}" for name in ("demand", "generation", "price", "models", "usage")}
    for path, item in document["paths"].items():
        operation = item["get"]
        assert operation["security"] == [{"HTTPBearer": []}]
        for status in ("401", "404", "422", "429", "503"):
            schema = operation["responses"][status]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ErrorAnswer"}, (path, status)
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        parameters = {} if path in ("/v1/models", "/v1/usage") else {"microgrid": 1}
        answer = (await api.get(path, **parameters)).json()
        assert set(answer) == set(document["components"]["schemas"][schema]["properties"])


NUMBERS = st.one_of(st.integers(-(10**20), 10**20).map(str), st.floats().map(str), st.text(max_size=40))
PATHS = st.sampled_from(["/v1/demand", "/v1/generation", "/v1/price", "/v1/models", "/v1/usage"])
HEADERS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300)


async def test_garbage_never_crashes(api: Api):
    """Any parameters, headers and key: an answer or a sentence, never 500."""
    loop = asyncio.get_running_loop()

    async def ask(path: str, parameters: list[tuple[str, str]], header: str, with_key: bool) -> httpx.Response:
        api.wall[0] += 60  # no limit in the way
        headers = {"Authorization": f"Bearer {api.key}"} if with_key else {"Authorization": header}
        return await api.client.get(path, params=parameters, headers=headers)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        path=PATHS,
        parameters=st.lists(st.tuples(st.sampled_from(["microgrid", "horizon_hours", "x"]), NUMBERS), max_size=4),
        header=HEADERS,
        with_key=st.booleans(),
    )
    def fuzz(path: str, parameters: list[tuple[str, str]], header: str, with_key: bool) -> None:
        answer = asyncio.run_coroutine_threadsafe(ask(path, parameters, header.strip(), with_key), loop).result(60)
        assert answer.status_code in (200, 401, 404, 422, 503), answer.text
        assert answer.status_code == 200 or is_sentence(answer)
        if not with_key:
            assert answer.status_code == 401

    await asyncio.to_thread(fuzz)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /v1/demand HTTP/1.1\r\nAuthorization: " + b"x" * 200_000 + b"\r\n\r\n",
        b"\x00\xff\xfe nonsense\r\n\r\n",
        b"GET /v1/demand?microgrid=%ff%fe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /v1/usage HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + b"Authorization: Bearer a\r\n" * 2 + b"\r\n",
    ],
)
async def test_bytes_that_are_no_request_are_refused_and_the_api_lives(api: Api, request_bytes: bytes):
    reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    writer.write(request_bytes)
    try:
        raw = await asyncio.wait_for(reader.read(), 30)
    except ConnectionResetError:
        raw = b""  # it was cut while still sending
    assert raw == b"" or raw.startswith((b"HTTP/1.1 400", b"HTTP/1.1 401", b"HTTP/1.1 422"))
    writer.close()
    assert (await api.get("/healthz")).json() == {"status": "ok"}


async def test_an_answers_body_does_not_wait_for_its_head_to_be_acknowledged(api: Api):
    """Head and body are two writes: without TCP_NODELAY the second waits for the caller's delayed acknowledgement, 40 ms."""
    assert (await api.get("/healthz")).status_code == 200
    assert api.server._server is not None
    sockets = [item.transport.get_extra_info("socket") for item in api.server._server.server_state.connections]
    assert sockets and all(item.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for item in sockets)
