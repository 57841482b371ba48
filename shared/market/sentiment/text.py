"""Text from strangers, made harmless: it is shown and scored, and never obeyed.

What is taken out: markup and entities; control, format, zero-width, bidirectional and tag
characters, variation selectors and blank letters, by which text can be hidden from a person and
shown to a model (Unicode Technical Report 36, "Unicode Security Considerations", and UTS 39);
combining marks beyond two on a letter. What is left is in Unicode's form NFKC.
"""

from __future__ import annotations

import functools
import html
import re
import unicodedata

MAX_LENGTH = 200
"""Characters of a cleaned text. Headlines are shorter; what is longer is cut."""

_MAX_RAW = 4_000  # the work on one text is bounded before it begins
_MAX_LAYERS = 5
_MAX_MARKS = 2
_MARKUP = re.compile(
    r"<!--.*?-->|<(script|style)\b.*?</\1\s*>|<[!/?a-z][^<>]*>", re.DOTALL | re.IGNORECASE
)
_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_HIDING_MARKS = (
    (0x034F, 0x034F),  # combining grapheme joiner
    (0x17B4, 0x17B5),  # Khmer inherent vowels
    (0x180B, 0x180F),  # Mongolian variation selectors
    (0xFE00, 0xFE0F),  # variation selectors
    (0xE0100, 0xE01EF),  # variation selectors supplement
)


def clean(raw: str) -> str:
    """One line of plain visible text, at most ``MAX_LENGTH`` characters; perhaps an empty one.

    Markup may hide in entities and entities in full-width letters, so the steps are repeated
    until nothing changes. What is wrapped more than five layers deep was not meant for a reader
    and becomes the empty text. ``clean`` of a cleaned text is the same text.
    """
    text = raw[:_MAX_RAW]
    for _ in range(_MAX_LAYERS):
        before, text = text, _unwrapped(text)
        if text == before:
            return text[:MAX_LENGTH].rstrip()
    return ""


@functools.lru_cache(maxsize=1_024)  # the same headlines come with every minute
def same_story(text: str) -> str:
    """A key that headlines share if they differ in case, punctuation and spaces only."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _unwrapped(text: str) -> str:
    text = unicodedata.normalize("NFKC", html.unescape(text))
    text = _MARKUP.sub(" ", _visible(text))
    return " ".join(text.split())


def _visible(text: str) -> str:
    kept: list[str] = []
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        if category in ("Cc", "Zl", "Zp"):
            kept.append(" ")
        elif category[0] != "C" and not _hides(character):
            marks = marks + 1 if category[0] == "M" else 0
            if marks <= _MAX_MARKS:
                kept.append(character)
    return "".join(kept)


def _hides(character: str) -> bool:
    if character < "\u034f":
        return False
    code = ord(character)
    return character in _BLANK_LETTERS or any(low <= code <= high for low, high in _HIDING_MARKS)
