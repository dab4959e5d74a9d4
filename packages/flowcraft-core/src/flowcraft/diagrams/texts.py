"""Text of users, as text of a diagram: cut, made visible, and escaped so that it can be nothing else."""

from __future__ import annotations

import unicodedata
from typing import Final

__all__ = ["LONGEST", "dot_text", "duration_text", "mermaid_text"]

#: So many characters of a text are shown.
LONGEST: Final = 80


def _shown(text: str) -> str:
    """Text on one line: cut where it is long, and what has no shape, or could turn the rest round, made visible."""
    if len(text) > LONGEST:
        text = text[: LONGEST - 1] + "…"
    return "".join(map(_visible, text))


def _visible(char: str) -> str:
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return f"<U+{code:04X}>" if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Co", "Cn") else char


def mermaid_text(text: str) -> str:
    """Safe inside a quoted label: what is neither a letter, a digit nor harmless between two of them is a number."""
    # Mermaid would make an icon of fa:fa-car and a formula of $$x$$, also where they are spelt with numbers
    shown = _shown(text).replace(":fa-", ":\u200bfa-").replace("$$", "$\u200b$")
    made: list[str] = []
    for at, char in enumerate(shown):
        inside = 0 < at < len(shown) - 1 and shown[at - 1].isalnum() and shown[at + 1].isalnum()
        plain = char.isalnum() or char == " " or (char in "_.-" and inside)
        made.append(char if plain else f"#{ord(char)};")
    return "".join(made)


def dot_text(text: str) -> str:
    """Safe inside a quoted string of DOT, which knows escapes and the entities of HTML."""
    return _shown(text).replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')


def duration_text(seconds: float) -> str:
    """A duration for people: its two largest units."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds == int(seconds) else f"{seconds:.2f} s"
    for name, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            rest = int(seconds % size // part)
            return f"{int(seconds // size)} {name}" + (f" {rest} {smaller}" if rest else "")
    raise AssertionError(seconds)
