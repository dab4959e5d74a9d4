"""Batches: the item visits of an item node, a window of them at a time."""

from __future__ import annotations

from flowcraft.engine.draft import Cell, Draft
from flowcraft.engine.ending import stopped_state
from flowcraft.engine.head import (
    CANCELLED,
    COMPLETED,
    DEAD,
    DRAINING,
    FAILED,
    HELD,
    READY,
    RETRYING,
    SPREAD,
    WAITING,
    Activation,
)
from flowcraft.engine.outcomes import complete, fail, try_again
from flowcraft.engine.slots import CHUNK, FAILING, LOST, Batch, chunk_key, item_of, item_slot, node_of, result_key
from flowcraft.model import ErrorInfo, ValueKey

__all__ = [
    "AWAY",
    "come_back",
    "freeze",
    "give_up_batch",
    "go_on",
    "item_completed",
    "item_dropped",
    "item_failed",
    "open_batch",
    "step_aside",
    "stop_items",
]  # fmt: skip

#: The states of the items of a batch that starts again.
_AGAIN = bytes(state if state == COMPLETED else HELD for state in range(256))
#: An item whose next attempt is further away than so many seconds leaves the window.
AWAY = 60.0


def freeze(draft: Draft, scatter: int, items: tuple[int, tuple[Cell, ...]]) -> None:
    """Store what a scatter returned: its number of items, and the items in chunks."""
    count, chunks = items
    name, visit = draft.graph.ids[scatter], draft.head.active[scatter].visit
    for number, cell in enumerate(chunks):
        draft.write(chunk_key(name, visit, number), cell)
    draft.head.frozen[scatter] = (count, visit)


def open_batch(draft: Draft, node: int, visit: int) -> None:
    """Begin a visit of an item node, with the items that its scatter has just frozen, or the same ones as before."""
    graph, head = draft.graph, draft.head
    plan, old = graph.batches[node], head.batches.get(node)
    count, source = head.frozen[graph.index[plan.scatter]]
    groups = -(-count // plan.size)
    states = bytearray(groups * (HELD,))
    under = visit
    if old is not None and old.source == source:  # a retry: what was made of these very items stays
        under, states = old.under, old.states.translate(_AGAIN)
    elif old is not None:
        _forget(draft, node, old, source)
    head.batches[node] = Batch(visit, under, source, count, plan.size, plan.window, bytearray(states))
    head.states[node] = SPREAD
    draft.note("batch:started", node, visit, items=count)
    go_on(draft, node)


def _forget(draft: Draft, node: int, old: Batch, source: int) -> None:
    """Delete what an earlier visit worked on and made."""
    name = draft.graph.ids[node]
    for item in range(len(old.states)):
        draft.erase(result_key(name, old.under, item))
    if old.source != source:
        for chunk in range(-(-old.items // CHUNK)):
            draft.erase(chunk_key(draft.graph.batches[node].scatter, old.source, chunk))


def fill(draft: Draft, node: int) -> None:
    """Let items into the window: those that left it and are due, then the next that are HELD."""
    head = draft.head
    batch = head.batches[node]
    for item in sorted(batch.away) if batch.away else ():
        slot = item_slot(node, item)
        old = head.active[slot]
        if batch.busy < batch.window and head.state(slot) == RETRYING and old.due <= draft.now:
            come_back(draft, slot)
    while batch.busy < batch.window and (item := batch.states.find(HELD)) >= 0:
        batch.busy += 1
        draft.rearm(item_slot(node, item), batch.visit, 1)


def come_back(draft: Draft, slot: int, again: Activation | None = None) -> bool:
    """Make an item READY whose time has come; False if it left the window, which has no room now."""
    head = draft.head
    batch, old = head.batches[node_of(slot)], head.active[slot]
    if item_of(slot) in batch.away:
        if batch.busy >= batch.window:
            return False
        batch.away.discard(item_of(slot))
        batch.busy += 1
    draft.resume(slot, again or Activation(draft.nonce, draft.now, old.visit, old.attempt))
    return True


def step_aside(draft: Draft, slot: int) -> None:
    """The item waits for long, or nobody can execute it: others have its place in the window."""
    batch = draft.head.batches[node_of(slot)]
    if item_of(slot) not in batch.away:
        batch.away.add(item_of(slot))
        batch.busy -= 1
        draft.spread.append(node_of(slot))


def item_completed(draft: Draft, slot: int, output: Cell, failed: int) -> None:
    """An item visit completed; ``failed`` of its items did not, which its output tells."""
    head, node = draft.head, node_of(slot)
    activation, batch = head.active[slot], head.batches[node]
    draft.write(result_key(draft.graph.ids[node], batch.under, item_of(slot)), output)
    draft.note("item:completed", slot, activation.visit, activation.attempt, **draft.take_measured())
    _end(draft, slot, FAILED if failed else COMPLETED)
    if failed:
        _count_failures(draft, slot, failed, ErrorInfo("ItemFailed", f"{failed} of its items failed"))


def item_failed(
    draft: Draft, slot: int, error: ErrorInfo, *, retryable: bool, fatal: bool, attempts: int, random: float
) -> None:
    """An attempt at an item visit failed; it is tried again, or the item has failed."""
    head, node = draft.head, node_of(slot)
    activation, batch = head.active[slot], head.batches[node]
    retry = draft.graph.nodes[node].retry
    going_on = head.phase == "running" and head.state(slot) != DRAINING
    if going_on and retryable and not fatal and attempts < retry.attempts:
        delay = retry.delay_after(attempts, random)
        try_again(draft, slot, activation, attempts, error, delay)
        if delay > AWAY:
            step_aside(draft, slot)
        return
    told: dict[str, object] = {"error": {"kind": error.kind, "message": error.text[:2000]}}
    draft.write(result_key(draft.graph.ids[node], batch.under, item_of(slot)), draft.encode(told))
    draft.note("item:failed", slot, activation.visit, attempts, error=str(error), **draft.take_measured())
    _end(draft, slot, FAILED)
    _count_failures(draft, slot, batch.members(item_of(slot)), error)


def item_dropped(draft: Draft, slot: int) -> None:
    """A draining item visit was abandoned."""
    activation = draft.head.active[slot]
    draft.note("item:cancelled", slot, activation.visit, reason="drained")
    _end(draft, slot, CANCELLED)


def _count_failures(draft: Draft, slot: int, failed: int, error: ErrorInfo) -> None:
    node = node_of(slot)
    batch, plan = draft.head.batches[node], draft.graph.batches[node]
    batch.failures += failed
    if batch.first < 0:
        batch.first = item_of(slot)
    if plan.tolerate is None or batch.failures <= plan.tolerate or batch.ending or draft.head.phase != "running":
        return
    batch.ending = FAILING
    first = item_of(slot) * batch.size
    which = f"item {first}" if batch.size == 1 else f"items {first} to {first + batch.members(item_of(slot)) - 1}"
    text = f"{batch.failures} of {batch.items} items failed; {which}: {error}"
    draft.write(ValueKey("error", draft.graph.ids[node], batch.visit),
                draft.encode(ErrorInfo("BatchFailed", text).to_dict()))  # fmt: skip
    _cancel_items(draft, node)


def _end(draft: Draft, slot: int, state: int) -> None:
    """The item visit is over."""
    head, node = draft.head, node_of(slot)
    batch = head.batches[node]
    del head.active[slot]
    head.put(slot, state)
    if item_of(slot) in batch.away:
        batch.away.discard(item_of(slot))
    else:
        batch.busy -= 1
    draft.spread.append(node)


def _cancel_items(draft: Draft, node: int) -> None:
    """Nothing new begins, what nobody works on is cancelled, what somebody may work on drains."""
    head = draft.head
    batch = head.batches[node]
    batch.states = bytearray(batch.states.replace(bytes((HELD,)), bytes((CANCELLED,))))
    for slot in [s for s in head.active if s != node and node_of(s) == node]:
        state = head.state(slot)
        if state == DRAINING:
            continue
        working = state == READY or (state == WAITING and head.active[slot].reason)
        if working and not draft.drain(slot):
            continue
        if not working:
            del head.active[slot]
        head.put(slot, CANCELLED)
        if item_of(slot) in batch.away:
            batch.away.discard(item_of(slot))
        else:
            batch.busy -= 1
    draft.spread.append(node)


def give_up_batch(draft: Draft, node: int) -> None:
    """Nobody needs the batch any more."""
    batch = draft.head.batches[node]
    if batch.ending != LOST:
        batch.ending = LOST
        _cancel_items(draft, node)


def stop_items(draft: Draft) -> None:
    """The run is stopped; the item nodes themselves are cancelled by the caller."""
    for node in draft.graph.batches:
        if node in draft.head.batches:
            _cancel_items(draft, node)


def go_on(draft: Draft, node: int) -> None:
    """After news of items: let others in, or end the batch when its last item has ended."""
    head = draft.head
    batch = head.batches[node]
    if head.states[node] != SPREAD or head.phase != "running":
        return
    if not batch.ending:
        fill(draft, node)
    if batch.busy or batch.away:
        return
    if batch.ending == LOST:
        draft.came_to_nothing(node)
        draft.note("node:cancelled", node, batch.visit, reason="nobody needs it any more")
        draft.settle(node, stopped_state(draft, node, CANCELLED))
        draft.send(node, DEAD)
        return
    head.active[node] = Activation(draft.nonce, draft.now, batch.visit)
    if batch.ending == FAILING:
        error = ErrorInfo.from_dict(draft.value(ValueKey("error", draft.graph.ids[node], batch.visit)))
        fail(draft, node, error, retryable=False, fatal=False, attempts=1, random=0.0)
    else:
        complete(draft, node, draft.encode({"items": batch.items, "failed": batch.failures}), None)
