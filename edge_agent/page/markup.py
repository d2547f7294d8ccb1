"""HTML and SVG as text, in which nothing that came from elsewhere can become markup. Pure. Not here: what is written."""

from __future__ import annotations

from html import escape

VOID = frozenset({"input", "meta", "link", "br"})


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def element(tag: str, /, *children: str, **attributes: object) -> Markup:
    """An element; plain text in it is escaped. `class_` is class, `aria_label` is aria-label; None and False are left out."""
    words = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        words.append(f" {attribute}" if value is True else f' {attribute}="{escape(str(value))}"')
    head = f"<{tag}{''.join(words)}>"
    return Markup(head if tag in VOID else f"{head}{joined(*children)}</{tag}>")


def joined(*children: str) -> Markup:
    """One after the other."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children))
