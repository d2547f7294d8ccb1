"""What the API answers, as types; the OpenAPI document is made of them.

Rules: energies are integer Wh, prices integer wei per Wh, fees decimal text in wei (they may exceed what a program that
reads JSON holds exactly), times ISO 8601 in UTC, hashes 0x and 64 hex digits. Every forecast carries where it comes from.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from enum import IntEnum

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """Base of all answers: frozen, nothing unnamed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ErrorAnswer(Answer):
    """One sentence each."""

    error: str
    what_to_do: str


class Horizon(IntEnum):
    """How far ahead, in hours."""

    DAY = 24
    TWO_DAYS = 48
    THREE_DAYS = 72


class WhereVouched(Answer):
    """Where the same is answered by all replicas and signed by a quorum: ask this contract of the plasma chain."""

    call: str = "request(uint256 microgrid)"
    plasma_chain_id: int
    contract: str
    ppdl_chain_id: int
    horizon_hours: int = 24


class Origin(Answer):
    """What a forecast rests on."""

    microgrid: int
    horizon_hours: int
    made_by: str = Field(
        description="`hub model`; `agreed chain model` for prices, and for demand while the hub has no model of its own;"
        " `base forecast` for prices while no round of the chain's model is learnt"
    )
    model_id: str
    model_hash: str = Field(description="keccak-256 of model id, scale and int32 weights")
    ppdl_height: int = Field(
        description="height of the PPDL chain up to which agreed sums were taken in; with an agreed model that at which it was"
    )
    as_of: datetime = Field(description="inputs are known up to this moment")
    gaps_filled: int = Field(description="steps of the latest week that were not known and were made up")
    vouched: bool = Field(default=False, description="always false here: this is the word of one hub")
    where_vouched: WhereVouched


class HourDemand(Answer):
    """Net energy of one hour in Wh: import less export. The margin is in thousandths of the capacity."""

    start: datetime
    p10_wh: int
    p50_wh: int
    p90_wh: int
    mean_wh: int
    reserve_margin_milli: int | None = Field(
        default=None, description="(capacity x 1 h - p90) / (capacity x 1 h), rounded down; null without a known capacity"
    )


class SmallestMargin(Answer):
    """The hour with the least room."""

    start: datetime
    reserve_margin_milli: int


class DemandAnswer(Origin):
    capacity_w: int | None
    smallest_reserve_margin: SmallestMargin | None
    hours: list[HourDemand]


class HourGeneration(Answer):
    """Energy that the homes export in one hour, in Wh."""

    start: datetime
    p10_wh: int
    p50_wh: int
    p90_wh: int
    mean_wh: int


class GenerationAnswer(Origin):
    hours: list[HourGeneration]


class SlotPrice(Answer):
    """Price of the microgrid's pool in one 15-minute slot, in wei per Wh."""

    slot: int
    start: datetime
    p10_wei_per_wh: int
    p50_wei_per_wh: int
    p90_wei_per_wh: int
    mean_wei_per_wh: int


class PriceAnswer(Origin):
    slots: list[SlotPrice]


class ModelLine(Answer):
    """One model of this hub; `missing` says what it still lacks, and then there is no hash."""

    kind: str
    microgrid: int
    horizon_hours: int
    model_id: str | None
    model_hash: str | None
    trained_at: datetime | None
    missing: str | None


class AgreedLine(Answer):
    """A model that homes, or for prices hubs, learn together and the PPDL chain agrees on."""

    model_id: str
    quantity: str
    model_hash: str = Field(description="the agreed weights at `height`; with each learnt round there are others")
    height: int = Field(description="height of the PPDL chain at which this was agreed on")
    rounds: int = Field(description="rounds that changed the model so far")
    vouched: bool = Field(description="whether answers on chain are made with it; of one model they are")


class ModelsAnswer(Answer):
    ppdl_height: int
    models: list[ModelLine]
    agreed: list[AgreedLine]


class UsageDay(Answer):
    """Calls of the asking key to one endpoint on one day (UTC)."""

    day: date
    endpoint: str
    calls: int
    charged: int
    fee_wei: str


class UsageAnswer(Answer):
    """What the asking key may do, has done in the latest days, and owes for them."""

    key_id: str
    name: str
    requests_per_minute: int
    daily: int
    calls_today: int
    fee_wei_per_call: str
    fees_wei: str
    days: list[UsageDay]


def moment(unix_seconds: int) -> datetime:
    return datetime.fromtimestamp(unix_seconds, UTC)
