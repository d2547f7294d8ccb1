"""What is private today, and what is not yet: the table that the console shows and the README repeats.

Rules: one row for each datum; the status says what this version does, never what a later one will. A test keeps the
README's table and this one the same.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

PRIVATE, PUBLIC, NOT_YET = "private", "public", "not yet"


@dataclass(frozen=True)
class PrivacyRow:
    """One datum: its status, who can see it and how that comes, in English and Korean."""

    datum_en: str
    datum_ko: str
    status: str
    who_en: str
    who_ko: str
    note_en: str
    note_ko: str


TABLE = (
    PrivacyRow(
        "Meter readings inside a slot",
        "구간 안의 계량값",
        PRIVATE,
        "the home",
        "가정",
        "Stored on the meter's agent; never sent.",
        "계량기 에이전트에만 저장되고 전송되지 않습니다.",
    ),
    PrivacyRow(
        "A home's import and export of a slot, as telemetry",
        "한 구간의 수전·역송 전력량(원격 계측)",
        PRIVATE,
        "the home; the hub sees the sum of its group",
        "가정. 허브는 그룹 합계만 봅니다",
        "Pair and self masks come off the sum of a group of about 10, never under 5, only, once a slot; beside a feeder read "
        "in clear a group stays closed while one to four of its homes are missing.",
        "쌍별 마스크와 자체 마스크는 약 10가구, 최소 5가구 그룹의 합에서만, 구간마다 한 번만 벗겨집니다. 피더를 평문으로 읽는 "
        "곳에서 한 가구에서 네 가구가 빠진 그룹은 공개되지 않습니다.",
    ),
    PrivacyRow(
        "Energy a home mints, sells, buys and burns on the plasma chain",
        "플라스마 체인에서 발행·판매·구매·소각한 전력량",
        NOT_YET,
        "everybody who reads the plasma chain, under the account of the home",
        "플라스마 체인을 읽는 누구나(가정의 계정으로)",
        "In the public market signed readings stand on chain; a home with [market] in its file, as in "
        "`openmg demo --market private`, trades by proofs instead.",
        "공개 시장에서는 서명된 계량값이 체인에 남습니다. 설정에 [market]이 있는 가정(`openmg demo --market private`)은 "
        "증명으로 비공개 거래합니다.",
    ),
    PrivacyRow(
        "Who pays whom, and how much, in a private transfer",
        "비공개 송금의 당사자와 금액",
        PRIVATE,
        "sender and receiver",
        "보내는 이와 받는 이",
        "Commitments and nullifiers only; the proof is made on the meter and shows nothing else.",
        "커밋먼트와 널리파이어만 공개되며 증명은 계량기에서 만들어집니다.",
    ),
    PrivacyRow(
        "Deposits and amounts shielded or unshielded",
        "예치금과 비공개 전환·해제 금액",
        PUBLIC,
        "everybody",
        "누구나",
        "They cross the border of the private pool, so account and amount are seen.",
        "비공개 풀의 경계를 넘으므로 계정과 금액이 보입니다.",
    ),
    PrivacyRow(
        "Which home sent a transaction to the chain",
        "체인 거래를 보낸 가정",
        PRIVATE,
        "the home; its hub sees that an envelope passes, the relay sees what is in it",
        "가정. 허브는 봉투가 지나간 사실만, 중계자는 내용만 봅니다",
        "Sealed to another hub's relay, in envelopes of one size, four a slot at drawn times, dummies among them.",
        "다른 허브의 중계자에게 봉인되며, 크기가 같은 봉투가 더미를 포함해 구간마다 네 번 무작위 시각에 나갑니다.",
    ),
    PrivacyRow(
        "Training data",
        "학습 데이터",
        PRIVATE,
        "the home",
        "가정",
        "Training runs on the meter.",
        "학습은 계량기에서 이루어집니다.",
    ),
    PrivacyRow(
        "A home's model update",
        "가정의 모델 업데이트",
        NOT_YET,
        "every PPDL validator",
        "모든 PPDL 검증자",
        "Clipped and quantised, but seen one by one, unless the chain's plan opens sums only (`openmg demo --privacy secagg`).",
        "절단·양자화되지만 개별로 보입니다. 체인의 계획이 합계만 열도록 정하면(`openmg demo --privacy secagg`) 보이지"
        " 않습니다.",
    ),
    PrivacyRow(
        "A home's loss of the shared model",
        "공유 모델에 대한 가정의 손실값",
        PUBLIC,
        "everybody who reads PPDL blocks",
        "PPDL 블록을 읽는 누구나",
        "Told by each home under its address; a plan with noise has none told but the committee's.",
        "가정마다 자기 주소로 알립니다. 잡음을 쓰는 계획에서는 위원회의 값만 알립니다.",
    ),
    PrivacyRow(
        "Group sums, the feeder meter, pool reserves, prices and the model",
        "그룹 합계, 피더 계량기, 풀 잔고, 가격, 모델",
        PUBLIC,
        "everybody",
        "누구나",
        "They are what the microgrid agrees on.",
        "마이크로그리드가 합의하는 값입니다.",
    ),
    PrivacyRow(
        "Device health (uptime, poll errors, waiting rows)",
        "기기 상태(가동 시간, 오류, 대기 행)",
        PUBLIC,
        "the hub",
        "허브",
        "Sent in clear, signed; it says nothing of consumption.",
        "서명하여 평문으로 보내며 소비 정보는 담지 않습니다.",
    ),
)


SENDER_WITHOUT_RELAY = PrivacyRow(
    "Which home sent a transaction to the chain",
    "체인 거래를 보낸 가정",
    NOT_YET,
    "the home and its hub",
    "가정과 그 허브",
    "Protection off: no other hub opens envelopes, so this one sees sender and content. Add the relay of another operator.",
    "보호 꺼짐: 봉투를 여는 다른 허브가 없어 이 허브가 보낸 이와 내용을 모두 봅니다. 다른 운영자의 중계자를 추가하십시오.",
)
"""Takes the place of the row of that datum in a hub whose envelopes no other hub opens."""


UPDATES_SUMMED = PrivacyRow(
    "A home's model update",
    "가정의 모델 업데이트",
    PRIVATE,
    "the home; hubs open sums over at least five",
    "가정. 허브는 다섯 가정 이상의 합계만 엽니다",
    "Masked on the meter; a quorum of hubs opens the sum of a round's survivors, as long as under a third of them collude.",
    "계량기에서 마스킹됩니다. 구성원의 3분의 1 미만이 공모하는 한, 허브들은 라운드에 남은 구성원의 합계만 엽니다.",
)
"""Takes the place of the row of that datum on a chain whose plan opens sums only."""


def rows(*, other_relay: bool = True, sums_only: bool = False) -> list[dict[str, Any]]:
    """The table as the console's `privacy` section takes it.

    other_relay: whether a hub other than this opens envelopes. sums_only: whether the chain's learning plan hides updates.
    """
    chosen = () if other_relay else (SENDER_WITHOUT_RELAY,), (UPDATES_SUMMED,) if sums_only else ()
    replaced = {row.datum_en: row for group in chosen for row in group}
    return [asdict(replaced.get(row.datum_en, row)) for row in TABLE]
