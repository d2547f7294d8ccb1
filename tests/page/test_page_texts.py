"""The texts are complete in both languages, and none is left over."""

from __future__ import annotations

import re
import string
from pathlib import Path

from edge_agent.page.text import LANGUAGES
from edge_agent.page.text.en import ENGLISH
from edge_agent.page.text.ko import KOREAN

FOLDER = "edge_agent/page"


def names(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_have_the_same_keys_and_names() -> None:
    assert set(LANGUAGES) == {"en", "ko"} and list(ENGLISH) == list(KOREAN)
    assert {key: names(text) for key, text in ENGLISH.items()} == {key: names(text) for key, text in KOREAN.items()}
    assert all(text.strip() for text in (*ENGLISH.values(), *KOREAN.values()))


def test_korean_is_korean() -> None:
    same = {key for key in ENGLISH if ENGLISH[key] == KOREAN[key]}
    assert same == {"p10", "p50", "p90", "middle"}
    assert all(re.search("[가-힣]", KOREAN[key]) for key in set(KOREAN) - same - {"band", "window_time"})


def test_every_text_is_used_and_every_reason_has_one(repo_root: Path) -> None:
    files = [path for path in (repo_root / FOLDER).rglob("*.py") if path.parent.name != "text"]
    source = "\n".join(path.read_text(encoding="utf-8") for path in files)
    said = {key for key in ENGLISH if re.search(rf"""["']{key}["']""", source)}
    reasons = {f"reason_{word}" for word in re.findall(r'"([a-z_]+)"', source)} & set(ENGLISH)
    built = {key for key in ENGLISH if key.startswith(("csv_", "quantity_"))}
    assert set(ENGLISH) == said | reasons | built
    named = set(re.findall(r'(?:Unknown|no_forecast)\(\s*"([a-z_]+)"', source))
    assert len(named) > 8 and {f"reason_{name}" for name in named} <= set(ENGLISH)
