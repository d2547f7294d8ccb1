"""The page and the login as whole HTML documents. Pure. Not here: the sections of the page (`sections`), HTTP (`pages`)."""

from __future__ import annotations

from collections.abc import Sequence
from zoneinfo import ZoneInfo

from edge_agent.page.access import WrongCodes
from edge_agent.page.format import moment
from edge_agent.page.markup import Markup, element, joined
from edge_agent.page.text import LANGUAGES


def document(lang: str, *body: str) -> str:
    """A whole document; its script is the page's own file and only keeps the power up to date."""
    texts = LANGUAGES[lang]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", texts["title"]),
        element("link", rel="icon", href="/static/icon.svg", type="image/svg+xml"),
        element("link", rel="stylesheet", href="/static/page.css"),
        element("script", src="/static/page.js", defer=True),
    )
    skip = element("a", texts["skip"], href="#main", class_="skip")
    return f"<!doctype html>\n{element('html', head, element('body', skip, *body), lang=lang)}\n"


def _languages(lang: str, path: str) -> Markup:
    links = [
        element(
            "a",
            texts["language"],
            href=f"{path}?lang={key}",
            hreflang=key,
            lang=key,
            aria_current="true" if key == lang else None,
        )
        for key, texts in LANGUAGES.items()
    ]
    return element("nav", *links, aria_label="Language · 언어")


def login(lang: str, command: str, problem: str = "", shared: bool = False) -> str:
    """The login. `command`: how a code is made; `problem`: what was wrong with the last one; `shared`: by several homes."""
    texts = LANGUAGES[lang]
    field = element(
        "input",
        name="code",
        id="code",
        type="text",
        autocomplete="one-time-code",
        autocapitalize="characters",
        spellcheck="false",
        maxlength=32,
        required=True,
        autofocus=True,
        aria_describedby="how problem" if problem else "how",
    )
    complaint = [element("p", problem, id="problem", class_="unknown", role="alert")] if problem else []
    label = element("label", texts["login_code"], for_="code")
    button = element("button", texts["login_button"], type="submit")
    form = element("form", *complaint, label, field, button, method="post", action=f"/login?lang={lang}")
    how = element("p", texts["login_how_shared" if shared else "login_how"], " ", element("code", command), id="how")
    card = element("section", element("h1", texts["login_title"]), how, form, class_="card login")
    return document(lang, element("header", _languages(lang, "/login")), element("main", card, id="main"))


def page(
    lang: str, device: str, microgrid: int, now: float, zone: ZoneInfo, sections: Sequence[Markup], footer: Sequence[str]
) -> str:
    """The page of a home at simulated second `now`."""
    texts = LANGUAGES[lang]
    out = element("form", element("button", texts["logout"], type="submit"), method="post", action=f"/logout?lang={lang}")
    about = element("p", texts["device"].format(device=device, microgrid=microgrid), class_="note")
    title = element("div", element("h1", texts["title"]), about)
    header = element("header", title, _languages(lang, "/"), out)
    as_of = texts["as_of"].format(time=moment(now, zone), zone=zone.key)
    notes = [element("p", text) for text in (as_of, texts["private"], *footer)]
    return document(lang, header, element("main", joined(*sections), id="main"), element("footer", *notes))


def wrong_codes(lang: str, wrong: WrongCodes, since: int, zone: ZoneInfo, shared: bool) -> str:
    """What is said of wrong codes; times are wall seconds. shared: by homes of which none is to see another's address."""
    texts, began = LANGUAGES[lang], moment(since, zone)
    if wrong.last is None:
        return texts["no_wrong_codes"].format(since=began)
    last = moment(wrong.last, zone)
    if shared:
        return texts["wrong_codes_shared"].format(count=wrong.count, since=began, last=last)
    return texts["wrong_codes"].format(count=wrong.count, since=began, last=last, address=wrong.address or "?")
