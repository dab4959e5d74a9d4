"""What an outcome does to the run: completed, failed and tried again, handed to a fallback, or failed for good."""

from __future__ import annotations

from collections.abc import Sequence

from flowcraft.engine.actions import keep_action
from flowcraft.engine.draft import Cell, Draft, output_key
from flowcraft.engine.ending import fallback_state, stopped_state
from flowcraft.engine.head import (
    CANCELLED,
    COMPLETED,
    DEAD,
    DRAINING,
    FAILED,
    FAILED_LATE,
    LIVE,
    MARK_FAILED,
    OPEN,
    PENDING,
    RETRYING,
    SETTLED,
    UNMARKED,
    UPSET,
    VOID,
    Activation,
    Failure,
)
from flowcraft.engine.routes import Route, erase_unread, plan_route, take_route
from flowcraft.errors import ConditionError
from flowcraft.model import ErrorInfo, ValueKey

__all__ = ["complete", "drop", "fail", "finish_fallback", "route_late", "try_again"]


def complete(draft: Draft, node: int, output: Cell, action: str | None) -> None:
    """The active ``node`` completed, by its own function or by the fallback that stands in for it."""
    graph, head = draft.graph, draft.head
    activation = head.active.pop(node)
    if graph.simple[node] and not activation.before and head.states[node] != DRAINING and head.phase == "running":
        _complete_simply(draft, node, activation, output, action)
        return
    function = node if activation.runs < 0 else activation.runs
    done = (*activation.before, (function, activation.visit))
    for other, visit in done:
        _store_output(draft, other, visit, output)
    draft.note("node:completed", node, activation.visit, activation.attempt, action=action, by=graph.ids[function],
               **draft.take_measured())  # fmt: skip
    _remember(draft, done, node)
    if head.phase != "running":
        if head.halted.pop(node, None) is not None:
            head.late += [(other, visit, keep_action(draft, other, visit, action), node) for other, visit in done]
        head.states[node] = COMPLETED
        _count(draft, done, node, succeeded=True)
        return
    drained = head.states[node] == DRAINING
    head.states[node] = COMPLETED  # now: an expression on a fallback's edges may name whom it stood in for
    routes: list[tuple[int, int, Route]] = []
    unroutable: dict[int, ConditionError] = {}
    for other, visit in done:
        if drained and other == node:
            continue  # a loser's edges are dead; those of the fallback that stood in for it still count
        try:
            routes.append((other, visit, plan_route(draft, other, output, action)))
        except ConditionError as error:
            unroutable[other] = error
    _count(draft, [pair for pair in done if pair[0] not in unroutable], node, succeeded=True)
    _count(draft, [pair for pair in done if pair[0] in unroutable], node, succeeded=False)
    _close(draft, node, FAILED if node in unroutable else COMPLETED)
    for other, visit in done:
        if other in unroutable:
            _condition_failed(draft, other, visit, unroutable[other], owner=node)
    for other, visit, route in routes:
        take_route(draft, other, visit, route, owner=node)
    if drained:
        draft.send(node, DEAD)


def route_late(draft: Draft, node: int, visit: int, action: str | None, owner: int) -> None:
    """A visit for ``owner`` that completed while the run was stopped leads on, now that the run goes on."""
    output = draft.cell(output_key(draft.graph, node, visit))
    try:
        take_route(draft, node, visit, plan_route(draft, node, output, action), owner=owner)
    except ConditionError as error:
        draft.head.states[node] = FAILED
        _condition_failed(draft, node, visit, error, owner=owner)


def _complete_simply(draft: Draft, node: int, activation: Activation, output: Cell, action: str | None) -> None:
    """The common case at speed: no conditions, no scope, no fallback; every edge is LIVE."""
    graph, head = draft.graph, draft.head
    visit = activation.visit
    draft.values[graph.key_of[node] if visit == 1 else output_key(graph, node, visit)] = output
    head.states[node] = COMPLETED
    if draft.facts is not None:
        draft.note("node:completed", node, activation.visit, activation.attempt, action=action, by=graph.ids[node],
                   **draft.take_measured())  # fmt: skip
    fallback = graph.fallback[node]
    if fallback >= 0:
        draft.finals.append(fallback)
    marks, work = head.marks, draft.work
    for e in graph.out[node]:
        if marks[e] == VOID:
            draft.mark(e, LIVE)
        elif marks[e] == UNMARKED:
            marks[e] = LIVE
            target = graph.dst[e]
            if head.states[target] != PENDING:
                continue
            if graph.lone[target]:
                draft.rearm(target, head.visits.get(target, 1), 1)
            elif graph.waits_for_all[target] and marks.find(UNMARKED, graph.in_lo[target], graph.in_mid[target]) >= 0:
                continue  # a wide join has nothing to decide before its last mark
            else:
                work.append(target)


def _remember(draft: Draft, done: Sequence[tuple[int, int]], owner: int) -> None:
    """What a rollback would have to undo; one that is under way undoes it, too."""
    for node, visit in done:
        if draft.graph.compensation[node] >= 0:
            draft.head.done.append((node, visit, owner))
            if draft.head.phase == "undoing":
                draft.head.undo.append((node, visit, owner))


def _count(draft: Draft, visits: Sequence[tuple[int, int]], owner: int, *, succeeded: bool) -> None:
    """Remember of fallback nodes that they ran for ``owner``, and whether that succeeded."""
    head = draft.head
    for node, _ in visits:
        if draft.graph.namers[node]:
            ran = head.fallbacks.setdefault(node, {})
            ran[owner] = succeeded
            if head.phase != "running" and head.states[node] in SETTLED:
                head.states[node] = COMPLETED if any(ran.values()) else FAILED


def _store_output(draft: Draft, node: int, visit: int, output: Cell) -> None:
    graph, head = draft.graph, draft.head
    if graph.repeats[node]:
        previous = head.outputs.get(node, 0)
        head.outputs[node] = visit
        head.last.pop(node, None)
        if previous:
            erase_unread(draft, node, previous)
    draft.write(output_key(graph, node, visit), output)


def _close(draft: Draft, node: int, state: int) -> None:
    """Settle a node whose visit ran; a fallback node stays open for those that name it."""
    if draft.graph.namers[node]:
        draft.open_fallback(node, state)
    else:
        draft.settle(node, state)


def _condition_failed(draft: Draft, node: int, visit: int, error: ConditionError, *, owner: int) -> None:
    """The output stands, but where it leads from ``node`` cannot be told: FAILED, without retry or fallback."""
    graph, head = draft.graph, draft.head
    info = ErrorInfo("ConditionError", str(error))
    draft.write(ValueKey("error", graph.ids[node], visit), draft.encode(info.to_dict()))
    if not graph.repeats[node]:
        head.outputs[node] = visit
    head.failures.append(Failure(node, ((node, visit),), -1 if node == owner else owner))
    draft.failed = True
    draft.note("node:failed", node, visit, error=str(info), by=graph.ids[node])
    if node == owner and not graph.namers[node]:
        draft.send(node, MARK_FAILED)


def fail(
    draft: Draft, node: int, error: ErrorInfo, *, retryable: bool, fatal: bool, attempts: int, random: float
) -> None:
    """The attempt number ``attempts`` of the active ``node`` failed; ``random`` in [0, 1) spreads the retry's delay."""
    graph, head = draft.graph, draft.head
    activation = head.active.pop(node)
    function = node if activation.runs < 0 else activation.runs
    retry = graph.nodes[function].retry
    going_on = head.phase == "running" and head.states[node] != DRAINING
    if going_on and retryable and not fatal and attempts < retry.attempts:
        try_again(draft, node, activation, attempts, error, retry.delay_after(attempts, random))
        return
    draft.write(ValueKey("error", graph.ids[function], activation.visit), draft.encode(error.to_dict()))
    done = (*activation.before, (function, activation.visit))
    fallback = graph.fallback[function]
    if going_on and not fatal and fallback >= 0:
        draft.note("node:fallback", node, activation.visit, attempts, error=str(error), fallback=graph.ids[fallback],
                   **draft.take_measured())  # fmt: skip
        draft.activate(node, runs=fallback, before=done)
        return
    _count(draft, done, node, succeeded=False)
    for other, _ in done:
        if not any(head.fallbacks.get(other, {}).values()):
            _forget_output(draft, other)
    _fail_for_good(draft, node, done, error)


def try_again(draft: Draft, node: int, old: Activation, attempts: int, error: ErrorInfo, delay: float) -> None:
    """The attempt number ``attempts`` failed; the next one follows after ``delay`` seconds."""
    due = draft.now + delay
    again = Activation(draft.nonce, draft.now, old.visit, attempts + 1, 0, due, old.runs, old.before)
    draft.note("node:retrying", node, old.visit, attempts, error=str(error), due=due, **draft.take_measured())
    if delay > 0:
        draft.schedule(node, RETRYING, again)
    else:
        draft.resume(node, again)


def _forget_output(draft: Draft, node: int) -> None:
    """The last visit that ran has no output, so neither has the node."""
    graph, head = draft.graph, draft.head
    previous = head.outputs.pop(node, 0) if graph.repeats[node] else 0
    head.last.pop(node, None)
    if previous:
        erase_unread(draft, node, previous)


def _fail_for_good(draft: Draft, node: int, done: tuple[tuple[int, int], ...], error: ErrorInfo) -> None:
    graph, head = draft.graph, draft.head
    head.failures.append(Failure(node, done))
    draft.failed = True
    draft.note(
        "node:failed", node, done[-1][1], 0, error=str(error), by=graph.ids[done[-1][0]], **draft.take_measured()
    )
    if head.phase != "running":
        if node in head.halted:
            head.halted[node] = FAILED_LATE
        head.states[node] = stopped_state(draft, node, FAILED)
        return
    drained = head.states[node] == DRAINING
    _close(draft, node, FAILED)
    if not graph.namers[node]:
        draft.send(node, DEAD if drained else MARK_FAILED)


def drop(draft: Draft, node: int) -> None:
    """A draining visit was abandoned: nobody owes an outcome any more."""
    activation = draft.head.active.pop(node)
    draft.came_to_nothing(node)
    draft.note("node:cancelled", node, activation.visit, reason="drained")
    if draft.head.phase != "running":
        draft.head.states[node] = stopped_state(draft, node, CANCELLED)
        return
    draft.settle(node, CANCELLED)
    draft.send(node, DEAD)


def finish_fallback(draft: Draft, node: int) -> None:
    """Mark the rest of a fallback's edges once nothing can choose them any more."""
    graph, head = draft.graph, draft.head
    if head.states[node] != OPEN or any(head.states[n] not in SETTLED for n in graph.namers[node]):
        return
    state = fallback_state(draft, node)
    draft.settle(node, state)
    draft.send(node, MARK_FAILED if state in UPSET else DEAD)
