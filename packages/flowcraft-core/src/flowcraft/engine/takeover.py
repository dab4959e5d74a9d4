"""A run that takes over what another one had come to, and starts again from one of its nodes."""

from __future__ import annotations

from collections.abc import Mapping

from flowcraft.constructs import ITEMS, WAIT
from flowcraft.engine.batches import item_dropped
from flowcraft.engine.commands import failed_nodes
from flowcraft.engine.draft import MISSING, Cell, Draft
from flowcraft.engine.head import BEGUN, COMPLETED, FAILED, NOT_BEGUN, PENDING, STATE_NAMES, WAS_OPEN, Head
from flowcraft.engine.outcomes import drop
from flowcraft.engine.reset import affected, reset_from
from flowcraft.engine.routes import given_key
from flowcraft.engine.slots import CHUNK, NODE_MASK, chunk_key, result_key
from flowcraft.engine.stopping import stop
from flowcraft.graph import Graph
from flowcraft.model import ValueKey

__all__ = ["abandon", "take_over", "taken", "why_no_input", "why_not_from"]


def abandon(draft: Draft) -> None:
    """Nobody works on the draft's copy of a run: what is active in it ends as if it had been stopped and given up.

    What that tells, revokes and cancels is about the other run, which goes on: it is forgotten.
    """
    head = draft.head
    if not head.terminal:
        if head.phase == "running":
            stop(draft, "cancelling", "")
        for slot in list(head.active):
            item_dropped(draft, slot) if slot > NODE_MASK else drop(draft, slot)
    if draft.facts is not None:
        draft.facts.clear()
    draft.revoked.clear()
    draft.children.clear()


def why_not_from(graph: Graph, head: Head, node: int) -> str:
    """Why a run cannot run again from a node of an abandoned head; an empty text if it can."""
    if node in graph.undoes:
        return "it only undoes another node"
    stands_in = graph.namers[node] and head.halted.get(node) != BEGUN
    if stands_in and head.ordinary.get(node) not in (COMPLETED, FAILED):
        return f"it only stood in for {', '.join(repr(graph.ids[n]) for n in graph.namers[node])}: name that instead"
    if head.states[node] in (COMPLETED, FAILED) or head.halted.get(node) == BEGUN:
        return ""
    waits = head.halted.get(node) in (NOT_BEGUN, WAS_OPEN)
    state = STATE_NAMES[PENDING if waits else head.states[node]]
    if node not in head.last:
        return f"it is {state}: nothing has led to it"
    header = graph.ids[graph.scopes[graph.scope_of[node]].header]
    return f"it is {state} in the latest round of its cycle: run again from {header!r}, where the rounds begin"


def why_no_input(graph: Graph, node: int) -> str:
    """Why no input can be given for a visit of a node; an empty text if one can."""
    if graph.kind[node] == WAIT:
        return "a wait has no use for an input: its output is the payload of its signal"
    if graph.kind[node] == ITEMS:
        return f"its items are the output of {graph.batches[node].scatter!r}: give that node another input"
    return ""


def take_over(draft: Draft, node: int, origin: str, given: Cell, context: Mapping[str, Cell]) -> None:
    """Make the abandoned head that of a new run, in which ``node`` and all that follows from it runs again.

    So does what had failed elsewhere or was under way. ``given`` is the input of the node's next visit, or MISSING.
    """
    graph, head = draft.graph, draft.head
    elsewhere = [n for n in failed_nodes(graph, head) if node not in affected(graph, head, [n])]
    _begin_anew(draft, (origin, graph.ids[node]))
    for key, cell in context.items():
        draft.write(ValueKey("context", key), cell)
    if given is not MISSING:
        draft.write(given_key(graph.ids[node]), given)
        head.given[node] = 0 if graph.repeats[node] else head.latest_visit(node, repeats=False) + 1
    if graph.kind[node] == ITEMS:
        del head.batches[node]  # all of its items run again
    reset_from(draft, [node, *elsewhere])
    for items, plan in graph.batches.items():
        if head.states[graph.index[plan.scatter]] != COMPLETED:  # it will make other items
            head.batches.pop(items, None)
            head.frozen.pop(graph.index[plan.scatter], None)


def _begin_anew(draft: Draft, origin: tuple[str, str]) -> None:
    """What belongs to one run alone begins afresh: its history, its signals, and what a rollback of it would undo."""
    head, timeout = draft.head, draft.graph.blueprint.timeout
    head.phase, head.cause, head.paused = "running", "", False
    head.epoch += 1  # inputs that are known in advance are those of first visits
    head.seq, head.tokens, head.logged = 0, [], []
    head.parent, head.depth, head.origin = None, 0, origin
    head.done, head.undo, head.goal = [], [], ()
    head.answered, head.mailbox = {}, {}
    head.started_at, head.wake_at = draft.now, None
    head.deadline = None if timeout is None else draft.now + timeout
    if head.deadline is not None:
        draft.wake(head.deadline)
    draft.note("run:started", rerun_of=origin[0], rerun_from=origin[1])


def taken(graph: Graph, head: Head, found: Mapping[ValueKey, bytes]) -> dict[ValueKey, bytes]:
    """Of the values of the other run those that the new one's head may ask for."""
    failed = {ValueKey("error", graph.ids[n], visit) for f in head.failures for n, visit in f.visits}
    given = {given_key(graph.ids[n]) for n in head.given}
    items = {
        chunk_key(graph.ids[n], visit, chunk)
        for n, (count, visit) in head.frozen.items()
        for chunk in range(-(-count // CHUNK))
    }
    items |= {
        result_key(graph.ids[n], batch.under, item)
        for n, batch in head.batches.items()
        for item in range(len(batch.states))
    }

    def wanted(key: ValueKey) -> bool:
        if key.space == "error":
            return key in failed
        if key.space in ("item", "result"):
            return key in items
        if key.space == "signal":
            return False
        return key.space != "input" or not key.name.startswith("node:") or key in given

    return {key: data for key, data in found.items() if wanted(key)}
