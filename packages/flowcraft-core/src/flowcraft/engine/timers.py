"""Time: what is due, what the ticker does about it, and visits that nobody can execute now."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from operator import itemgetter

from flowcraft.engine.batches import come_back, step_aside
from flowcraft.engine.draft import TIMES, Draft, Times, resend_delay
from flowcraft.engine.events import Parked, Tick, Unparked
from flowcraft.engine.head import DRAINING, PARKED, READY, RETRYING, WAITING, Activation, Head
from flowcraft.engine.propagate import propagate
from flowcraft.engine.slots import NODE_MASK, item_of, node_of
from flowcraft.engine.special import time_is_over
from flowcraft.engine.stopping import stop

__all__ = ["LIMITED", "Due", "due_work", "limited", "park", "put_off", "resend", "tick", "unpark"]

#: How the reason of a visit begins that waits for its turn under a limit: only `Unparked` wakes it.
LIMITED = "limit "
_PARK_BACKOFF = 5.0
_PARK_CAP = 300.0


@dataclass(frozen=True, slots=True)
class Due:
    """What a head wants of the ticker.

    ``wake``: when to look again at the latest · ``later``: the same, of what is not due yet · ``overdue``: READY slots
    whose message is due again · ``drained``:
    draining ones past their grace · ``children``: those whose subflow's run is to be looked after · ``timers``: those
    whose time has come · ``deadline``: whether the run's has passed.
    """

    wake: float | None
    later: float | None
    overdue: list[int]
    drained: list[int]
    children: list[int]
    timers: list[int]
    deadline: bool


def due_work(head: Head, now: float, times: Times = TIMES) -> Due:
    """What is due now, and when to look again."""
    deadline = head.deadline if head.phase == "running" else None
    ats = [] if deadline is None else [deadline]
    found: dict[str, list[int]] = {"overdue": [], "drained": [], "children": [], "timers": []}
    for slot, activation in head.active.items():
        kind, at = _due_at(head, slot, activation, times)
        if kind:
            ats.append(at)
            if at <= now:
                found[kind].append(slot)
    later = min((at for at in ats if at > now), default=None)
    return Due(min(ats, default=None), later, deadline=deadline is not None and deadline <= now, **found)


def _due_at(head: Head, slot: int, activation: Activation, times: Times) -> tuple[str, float]:
    """What is to be done about an active slot, and when; an empty text: nothing ever."""
    state = head.state(slot)
    if state == READY:
        return "" if head.paused else "overdue", activation.at + resend_delay(activation.resend, times)
    if state == DRAINING:
        return "children" if activation.reason else "drained", activation.at + times.drain
    if state == WAITING and activation.reason:
        return "children", activation.due
    never = not activation.due or (slot > NODE_MASK and _shut_out(head, slot))
    return "" if never else "timers", activation.due


def _shut_out(head: Head, slot: int) -> bool:
    """Whether an item has left its batch's window, which is full: its time will come when another item ends."""
    batch = head.batches[node_of(slot)]
    return item_of(slot) in batch.away and batch.busy >= batch.window


def tick(draft: Draft, event: Tick) -> bool:
    """Fire what is due; True if anything was."""
    head, now = draft.head, draft.now
    if head.deadline is not None and head.deadline <= now and head.phase == "running":
        stop(draft, "failing", "DeadlineExceeded: the run did not end in time")
        return True
    fired = False
    due = [(old.due, number, slot, old) for number, (slot, old) in enumerate(head.active.items()) if 0 < old.due <= now]
    for _, _, slot, old in sorted(due, key=itemgetter(0, 1)):
        if head.active.get(slot) is not old:
            continue
        state = head.state(slot)
        if state == PARKED and limited(old):
            continue
        if state == WAITING and not old.reason:
            fired = True
            time_is_over(draft, slot)
            propagate(draft)  # each is an outcome of its own: it may cancel the next
        elif state == RETRYING or (state == PARKED and event.can(node_of(slot) if old.runs < 0 else old.runs)):
            # one that this process cannot execute stays due for those that can
            fired = _again(draft, slot, old) or fired
    return fired


def _again(draft: Draft, slot: int, old: Activation) -> bool:
    if slot > NODE_MASK:
        if come_back(draft, slot):
            return True
        if draft.head.state(slot) == PARKED:  # somebody can execute it: it is the next when there is room
            draft.schedule(slot, RETRYING, replace(old, at=draft.now, due=draft.now, reason=""))
            return True
        return False
    draft.resume(slot, Activation(draft.nonce, draft.now, old.visit, old.attempt, 0, 0.0, old.runs, old.before))
    return True


def limited(activation: Activation) -> bool:
    """Whether a parked visit waits for its turn under a limit."""
    return activation.reason.startswith(LIMITED)


def park(draft: Draft, event: Parked) -> None:
    """The worker that got a READY visit cannot execute it."""
    slot, reason = event.visit.node, event.reason
    old = draft.head.active[slot]
    resend = max(old.resend, 0)
    delay, resends = event.delay, max(resend, int(event.again))
    if delay is None:
        delay, resends = min(_PARK_BACKOFF * 2.0 ** min(resend, 6), _PARK_CAP), resend + 1
    parked = Activation(
        draft.nonce, draft.now, old.visit, old.attempt, resends, draft.now + delay, old.runs, old.before, reason
    )
    draft.note("node:parked", slot, old.visit, old.attempt, reason=reason)
    draft.schedule(slot, PARKED, parked)
    if slot > NODE_MASK:
        step_aside(draft, slot)


def unpark(draft: Draft, event: Unparked) -> bool:
    """A visit that waits for a limit is tried again; False if it is not there any more, or has no place in a window, or
    if the run is paused: then it would take a turn, and not go on."""
    slot = event.node
    if draft.head.paused:
        return False
    old = draft.head.active.get(slot)
    if old is None or old.visit != event.visit or draft.head.state(slot) != PARKED or not limited(old):
        return False
    again = Activation(draft.nonce, draft.now, old.visit, old.attempt, old.resend, 0.0, old.runs, old.before)
    if slot > NODE_MASK:
        return come_back(draft, slot, again)
    draft.resume(slot, again)
    return True


def resend(draft: Draft, slots: Collection[int]) -> None:
    """The messages of these READY slots are sent again."""
    for slot in slots:
        old = draft.head.active.get(slot)
        if old is not None and draft.head.state(slot) == READY:
            draft.head.active[slot] = draft.altered(old, resend=max(old.resend, 0) + 1)
            draft.ready.append(slot)


def put_off(draft: Draft, slots: Collection[int]) -> None:
    """The runs of these subflows were looked after: next time is later."""
    for slot in slots:
        old = draft.head.active.get(slot)
        if old is None or not old.reason:
            continue
        due = draft.now + resend_delay(old.resend + 1, draft.times)
        draft.head.active[slot] = Activation(
            old.nonce, draft.now, old.visit, old.attempt, old.resend + 1, due, old.runs, old.before, old.reason
        )
        draft.wake(due)
