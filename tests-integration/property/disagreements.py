"""Cases in which the engine does not do what the oracle, and as far as it says so the page, want. None should stay.

A case that is listed here must fail: whoever mends the engine, or the page and the oracle, removes its line.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["DISAGREEMENTS"]

#: The name of a case: the section of docs/semantics.md and what the engine does.
DISAGREEMENTS: Mapping[str, str] = {}
