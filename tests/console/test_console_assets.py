"""The console's files: both languages, nothing from outside, no inline code, colours one can read."""

from __future__ import annotations

import re
from pathlib import Path

from hub.console.assets import CONTENT_TYPES, load_assets
from hub.ppdl.app.participation import CAPPED, SEAT_STATES
from hub.ppdl.app.private_state import BAD_DEALING, PRIVATE_OUTCOMES
from hub.ppdl.app.round_state import MALFORMED, NOT_REVEALED, OPEN, OUTCOMES
from openmg.learning.plan import PRIVACY_MODES
from openmg.learning.rules.outcome import Reason
from openmg.messages.learning import PHASES
from openmg.messages.private import STEP_PHASES

STATIC = Path(__file__).resolve().parents[2] / "hub" / "console" / "static"
SCRIPTS = {path.relative_to(STATIC).as_posix(): path.read_text("utf-8") for path in STATIC.rglob("*.js")}
PAGE = (STATIC / "index.html").read_text("utf-8")
SVG_NAMESPACE = "http://www.w3.org/2000/svg"
# Texts whose key is put together: t(`status_${level}`).
FAMILIES = {
    "status": ("ok", "warn", "bad", "wait", "off"),
    "part": ("meters", "sums", "ppdl", "relay", "plasma", "root", "market", "learning", "zk", "inference"),
    "page": ("overview", "grid", "market", "learning", "chains", "privacy"),
    "nav": ("overview", "grid", "market", "learning", "chains", "privacy"),
    "sev": ("info", "success", "warning", "alarm"),
    "link": ("connecting", "live", "lost"),
    "theme": ("auto", "light", "dark"),
    "privacy": ("private", "public", "not_yet"),
    "assume": ("entities", "members", "utility", "sums"),
    "kind": ("home", "feeder", "prosumer", "producer", "consumer"),
    "phase": ("running", "quiescent"),
    "trade": ("buy", "sell", "tie-line"),
    "step": ("commit", *STEP_PHASES, "reveal", "aggregate", "committee", "close"),
    "did": ("commit", *STEP_PHASES, "reveal", "committee"),
    "say": (*PHASES, *STEP_PHASES),
    "seat": SEAT_STATES,
    "outcome": tuple(outcome for outcome in (*OUTCOMES, *PRIVATE_OUTCOMES) if outcome != OPEN),
    "reason": (*Reason, MALFORMED, NOT_REVEALED, BAD_DEALING, CAPPED),
    "mode": PRIVACY_MODES,
    "about": PRIVACY_MODES,
}


def texts(language: str) -> dict[str, str]:
    source = "".join(text for name, text in SCRIPTS.items() if name.startswith(f"js/text_{language}"))
    return dict(re.findall(r'[\s{,]"?([a-z][a-z_-]*)"?:\s+"((?:[^"\\]|\\.)*)"', source))


def test_both_languages_have_the_same_texts_with_the_same_placeholders():
    en, ko = texts("en"), texts("ko")
    assert len(en) > 250
    # English alone needs a form for one; Korean does not inflect.
    plural = {key for key in en if key.endswith("_one")}
    assert all(key.removesuffix("_one") in en for key in plural)
    assert set(en) - plural == set(ko)
    for key, text in ko.items():
        assert set(re.findall(r"\{(\w+)\}", text)) == set(re.findall(r"\{(\w+)\}", en[key])), key
        assert text.strip() and en[key].strip(), key


def test_korean_is_korean_except_for_names():
    latin_only = {key for key, text in texts("ko").items() if not re.search("[가-힣]", text)}
    assert latin_only == {"cpu", "list_and"} | ({"story_price"} & latin_only)


def test_every_text_used_exists_and_every_text_is_used():
    code = "\n".join(text for name, text in SCRIPTS.items() if "text_" not in name)
    literal = set(re.findall(r'"([a-z][a-z_]*)"', code))
    used = set(re.findall(r'\bt\(\s*"([a-z_]+)"', code))
    built = set(re.findall(r"\bt\(`([a-z]+)_\$", code)) | set(re.findall(r'word\("([a-z]+)"', code))
    assert built == set(FAMILIES)
    expanded = {f"{family}_{name}" for family, names in FAMILIES.items() for name in names}
    en = {key.removesuffix("_one") for key in texts("en")}
    assert used <= en and expanded <= en
    assert en - used - expanded - literal == set()


def test_nothing_is_named_that_lies_outside():
    for path in STATIC.rglob("*"):
        if path.is_file():
            source = path.read_text("utf-8").replace(SVG_NAMESPACE, "")
            assert not re.search(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", source, re.I), path.name
            assert "@import" not in source and "url(" not in source, path.name


def test_no_inline_code_and_no_way_to_turn_text_into_markup():
    assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\son[a-z]+=|\sstyle=|javascript:", PAGE)
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc"
    )
    for name, source in SCRIPTS.items():
        assert not re.search(forbidden, source), name


def test_every_file_on_disk_is_served_and_every_file_named_exists():
    assets = load_assets()
    files = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file()}
    assert files == set(assets)
    assert {Path(name).suffix for name in files} <= set(CONTENT_TYPES)
    for named in re.findall(r'"/static/([^"]+)"', PAGE):
        assert named in assets
    for name, source in SCRIPTS.items():
        for target in re.findall(r'(?:from|import) "(\.[^"]+)"', source):
            resolved = (STATIC / name).parent.joinpath(target).resolve().relative_to(STATIC.resolve())
            assert resolved.as_posix() in assets, (name, target)


def test_files_stay_small():
    for path in (*STATIC.rglob("*.js"), *STATIC.rglob("*.css")):
        assert len(path.read_text("utf-8").splitlines()) <= 400, path.name


def palettes() -> dict[str, dict[str, str]]:
    source = (STATIC / "css" / "tokens.css").read_text("utf-8")
    blocks = re.findall(r":root[^{]*\{(.*?)\}", source, re.S)
    assert len(blocks) == 3
    light, system_dark, chosen_dark = (
        dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{3,6});", block)) for block in blocks
    )
    assert system_dark == chosen_dark  # dark by the system and by choice are one palette
    return {"light": light, "dark": {**light, **chosen_dark}}


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio, 1 to 21."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_and_marks_have_the_contrast_that_wcag_asks_for():
    assert round(contrast("#000", "#fff")) == 21
    for name, palette in palettes().items():
        for ground in ("--bg", "--surface", "--sunk"):
            for ink in ("--ink", "--ink-2", "--ink-3", "--brand", "--ok", "--warn", "--bad"):
                ratio = contrast(palette[ink], palette[ground])
                assert ratio >= 4.5, f"{name}: {ink} on {ground} is {ratio:.2f}"
        for tone in ("ok", "warn", "bad", "idle", "brand"):
            ratio = contrast(palette[f"--{tone}"], palette[f"--{tone}-soft"])
            assert ratio >= 4.5, f"{name}: {tone} on its soft ground is {ratio:.2f}"
        assert contrast(palette["--import"], palette["--idle-soft"]) >= 4.5  # the "public" chip
        for mark in ("--export", "--import", "--price", "--loss", "--limit", "--focus"):
            ratio = contrast(palette[mark], palette["--surface"])
            assert ratio >= 3, f"{name}: {mark} on --surface is {ratio:.2f}"
