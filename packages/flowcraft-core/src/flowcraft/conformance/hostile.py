"""Identifiers of users that have broken some store: each of them is allowed, and no two are the same."""

from __future__ import annotations

__all__ = ["IDS", "NAMES", "NO_IDS"]

#: Ids: not empty, at most 200 bytes of UTF-8, without NUL.
IDS: tuple[str, ...] = (
    "plain", " ", "a'b", 'a"b', "a;--", "'; DROP TABLE documents; --", "a/b", "a\\b", "../x", "..", ".",
    "a%b", "a_b", "axb", "a\x1fb", "a\x01\x7fb", "a\nb", "ä", "a\u0308", "日本", "😀", "\u202eltr", "\ufeff",
    "NULL", "null", "None", "0", "00", "1", "1e3", "1000", "true", "x" * 200, "é" * 100, "😀" * 50, "a:b",
    "a|b", "a,b", "a#b", "a.b", "a b", '["a"]', "{}", "{a}", "$.a", "a]b", "a*", "a?", "[a-z]", "A", "a",
    "a ", " a", "__proto__", "%s", "{0}", "${a}", "a\r\nb", "a\x1f1", "a1",
)  # fmt: skip
#: Names of values: as ids, or empty.
NAMES: tuple[str, ...] = ("", *IDS)
#: Texts that are never an id. A store may keep them or refuse them with a typed error.
NO_IDS: tuple[str, ...] = ("a\x00b", "\ud800", "x" * 5000)
