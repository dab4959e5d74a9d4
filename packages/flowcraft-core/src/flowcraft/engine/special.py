"""Nodes that the engine itself takes care of: it decides loops, and lets sleeps and waits wait."""

from __future__ import annotations

from typing import Final, Literal

from flowcraft.constructs import ITEMS, LOOP, SLEEP, TIMEOUT
from flowcraft.engine.actions import keep_action, take_action
from flowcraft.engine.batches import open_batch
from flowcraft.engine.draft import MISSING, Cell, Draft
from flowcraft.engine.events import Signal
from flowcraft.engine.head import PENDING, WAITING, Activation, Head
from flowcraft.engine.inputs import input_plan
from flowcraft.engine.outcomes import complete, fail
from flowcraft.engine.routes import lookup
from flowcraft.errors import ConditionError
from flowcraft.expressions import Reference, truthy
from flowcraft.graph import Graph
from flowcraft.model import ErrorInfo, ValueKey

__all__ = ["MAILBOX", "Answer", "begin", "judge", "take_signal", "time_is_over", "visits_begun"]

#: So many signals that came early are kept for a run.
MAILBOX: Final = 100

#: ``accepted``: it ended the wait · ``repeated``: it had done so before · ``early``: kept for a wait that has not begun
#: (also if it is kept already) · ``conflict``: another signal was accepted or kept for this visit · ``late``: the visit
#: is over, or the run has ended · ``full``: too many signals are kept.
Answer = Literal["accepted", "repeated", "early", "conflict", "late", "full"]


def begin(draft: Draft, node: int, visit: int) -> None:
    """The node's next visit, of which no worker hears."""
    kind = draft.graph.kind[node]
    if kind == ITEMS:
        open_batch(draft, node, visit)
        return
    activation = Activation(draft.nonce, draft.now, visit)
    draft.head.active[node] = activation
    if kind == LOOP:
        _decide(draft, node)
    elif kind == SLEEP:
        _sleep(draft, node, activation)
    else:
        _wait(draft, node, activation)


def _decide(draft: Draft, node: int) -> None:
    """A loop's controller: its condition says whether there is another round."""
    condition = draft.graph.loops[node]

    def resolve(reference: Reference) -> object:
        if reference.kind == "input":
            return _input(draft, node)
        if reference.kind == "result":
            return {"output": _input(draft, node), "action": None}
        return lookup(draft, reference)

    try:
        action = "continue" if truthy(condition.evaluate(resolve)) else "break"
    except ConditionError as error:
        text = f"the condition of loop {draft.graph.ids[node]!r} ({condition.source!r}) failed: {error}"
        fail(draft, node, ErrorInfo("ConditionError", text), retryable=False, fatal=True, attempts=1, random=0.0)
        return
    complete(draft, node, _passed_on(draft, node), action)


def _input(draft: Draft, node: int) -> object:
    return input_plan(draft.graph, draft.head, node).build(draft.value)


def _passed_on(draft: Draft, node: int) -> Cell:
    """The node's input as a cell: stored as it was, where it is one value."""
    plan = input_plan(draft.graph, draft.head, node)
    cell = MISSING if plan.whole is None else draft.cell(plan.whole)
    return draft.encode(plan.build(draft.value)) if cell is MISSING else cell


def _sleep(draft: Draft, node: int, activation: Activation) -> None:
    _suspend(draft, node, activation, draft.graph.timer[node] or 0.0)


def _suspend(draft: Draft, node: int, activation: Activation, seconds: float | None) -> None:
    due = 0.0 if seconds is None else draft.now + seconds
    draft.schedule(node, WAITING, Activation(activation.nonce, activation.at, activation.visit, due=due))
    draft.note("node:waiting", node, activation.visit, due=due or None)


def _wait(draft: Draft, node: int, activation: Activation) -> None:
    head = draft.head
    early = head.mailbox.pop((node, activation.visit), None)
    if early is None:
        _suspend(draft, node, activation, draft.graph.timer[node])
        return
    key = _mailbox_key(draft.graph, node, activation.visit)
    payload = draft.cell(key)
    draft.erase(key)
    _answered(head, node, activation.visit, early[0])
    complete(draft, node, payload, take_action(draft, node, activation.visit, early[1]))


def _answered(head: Head, node: int, visit: int, name: str) -> None:
    head.answered[node] = [*head.answered.get(node, [])[1 - MAILBOX :], (visit, name)]


def time_is_over(draft: Draft, node: int) -> None:
    """The time of a sleep or of a wait has come."""
    if draft.graph.kind[node] == SLEEP:
        complete(draft, node, _passed_on(draft, node), None)
    elif any(draft.graph.action[e] == TIMEOUT for e in draft.graph.out[node]):
        complete(draft, node, draft.encode(None), TIMEOUT)
    else:
        error = ErrorInfo("WaitTimedOut", f"nothing came for node {draft.graph.ids[node]!r} in time")
        fail(draft, node, error, retryable=False, fatal=False, attempts=1, random=0.0)


def _mailbox_key(graph: Graph, node: int, visit: int) -> ValueKey:
    return ValueKey("signal", graph.ids[node], visit)


def judge(graph: Graph, head: Head, signal: Signal) -> Answer:
    """What becomes of a signal for the wait ``signal.node``, by the head alone."""
    node = signal.node
    begun = visits_begun(graph, head, node)
    visit = max(begun, 1) if signal.visit is None else signal.visit
    answered = head.answered.get(node, ())
    if any(name == signal.id and signal.visit in (None, ended) for ended, name in answered):
        return "repeated"
    for (wait, coming), (name, _) in head.mailbox.items():
        if wait == node and name == signal.id and signal.visit in (None, coming):
            return "early"  # whatever became of it
    if head.terminal or head.phase != "running":
        return "late"
    if visit <= begun:
        if head.states[node] == WAITING and _waits_for_signal(head.active[node], visit):
            return "accepted"
        return "conflict" if any(ended == visit for ended, _ in answered) else "late"
    if not graph.repeats[node] and head.states[node] != PENDING:
        return "late"  # skipped or cancelled: this visit will never be
    if (node, visit) in head.mailbox:
        return "conflict"
    return "early" if len(head.mailbox) < MAILBOX else "full"


def _waits_for_signal(activation: Activation, visit: int) -> bool:
    """Whether this visit waits itself: after its time was over, the run of its fallback may be waited for."""
    return activation.visit == visit and activation.runs < 0 and not activation.reason


def visits_begun(graph: Graph, head: Head, node: int) -> int:
    """How many visits of the wait have begun."""
    if graph.repeats[node]:
        return head.visits.get(node, 0)
    return head.visits.get(node, 1) - (head.states[node] == PENDING)


def take_signal(draft: Draft, signal: Signal) -> bool:
    """Accept or keep a signal, if that changes anything."""
    answer = judge(draft.graph, draft.head, signal)
    node, head = signal.node, draft.head
    if answer == "accepted":
        _answered(head, node, head.active[node].visit, signal.id)
        complete(draft, node, signal.payload, signal.action)
        return True
    if answer != "early":
        return False
    visit = 1 if signal.visit is None else signal.visit
    if (node, visit) in head.mailbox:
        return False
    head.mailbox[node, visit] = (signal.id, keep_action(draft, node, visit, signal.action))
    draft.write(_mailbox_key(draft.graph, node, visit), signal.payload)
    draft.note("signal:kept", node, visit)
    return True
