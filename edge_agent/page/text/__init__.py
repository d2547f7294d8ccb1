"""The page's texts, in English and Korean: the same keys in both. Not here: numbers and dates (`format`)."""

from __future__ import annotations

from edge_agent.page.text.en import ENGLISH
from edge_agent.page.text.ko import KOREAN

LANGUAGES = {"en": ENGLISH, "ko": KOREAN}
"""Key: what a browser calls the language."""
DEFAULT = "en"
