"""What follows from marks and settlements, until nothing is left to decide; the order is part of the semantics."""

from __future__ import annotations

from flowcraft.engine.batches import give_up_batch, go_on
from flowcraft.engine.draft import Draft
from flowcraft.engine.joins import give_up_losers, resolve
from flowcraft.engine.outcomes import finish_fallback
from flowcraft.engine.rounds import end_visit, leave_loop
from flowcraft.engine.special import begin
from flowcraft.engine.stopping import fail_fast

__all__ = ["propagate"]


def propagate(draft: Draft) -> None:
    """Decide all that follows from the marks and settlements so far."""
    work, special = draft.work, draft.special
    while True:
        if work:
            resolve(draft, work.popleft())
        elif special:
            begin(draft, *special.popleft())
        elif draft.spread:
            go_on(draft, draft.spread.pop())
        elif draft.finals:
            finish_fallback(draft, draft.finals.pop())
        elif draft.fired:
            give_up_losers(draft)
        elif draft.unneeded:
            give_up_batch(draft, draft.unneeded.pop())
        elif draft.exits:
            leave_loop(draft, draft.exits.pop(0))
        elif draft.failed:
            fail_fast(draft)
        elif draft.ended:
            draft.ended.sort(key=lambda s: draft.graph.scopes[s].depth)
            end_visit(draft, draft.ended.pop())
        else:
            return
