"""What a check may need that is no capability of a backend."""

from __future__ import annotations

from typing import Final

__all__ = ["TOOLS"]

#: What to do if one is missing. The check is blocked then, not inapplicable: leaving one out earns no level.
TOOLS: Final = {
    "hypothesis": "Hypothesis is not installed: pip install 'flowcraft-core[conformance]'",
    "leftovers": "the target has no `leftovers`: give it a function that names all that is stored in a place",
    "elsewhere": "no other process can find the target: make it an attribute of a module that can be imported",
}
