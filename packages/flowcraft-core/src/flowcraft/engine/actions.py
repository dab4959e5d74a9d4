"""Actions that are kept for later, beside the head: whoever gave one may have put a secret into it, as into a value."""

from __future__ import annotations

from typing import Final

from flowcraft.engine.draft import MISSING, Draft
from flowcraft.model import ValueKey

__all__ = ["keep_action", "take_action"]

#: What the head says of an action that lies beside it.
_BESIDE: Final = ""


def keep_action(draft: Draft, node: int, visit: int, action: str | None) -> str | None:
    """Keep the action that a visit will have, or had; what the head remembers of it."""
    if action is None:
        return None
    draft.write(_key(draft, node, visit), draft.encode(action))
    return _BESIDE


def take_action(draft: Draft, node: int, visit: int, kept: str | None) -> str | None:
    """The action that was kept, and is kept no more."""
    if kept is None or kept != _BESIDE:
        return kept
    key = _key(draft, node, visit)
    action = draft.value(key)
    draft.erase(key)
    return None if action is MISSING else str(action)


def _key(draft: Draft, node: int, visit: int) -> ValueKey:
    """Among the signals, where no signal is: visits count from 1."""
    return ValueKey("signal", draft.graph.ids[node], -visit)
