"""The one transition of a run: events in, effects out. Pure: no I/O, no clock, no randomness.

::

    draft = Draft(graph, head, …)          # the head is changed in place: the caller owns it
    draft.begin(nonce, now)
    start(draft) or apply(draft, event)…   # as many as have arrived
    effects = seal(draft)                  # what to commit, publish and revoke
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from flowcraft.engine.draft import MISSING, TIMES, Cell, Draft, Fact, Times, resend_delay
from flowcraft.engine.ending import finish, stop
from flowcraft.engine.head import (
    DRAINING,
    OPEN,
    PARKED,
    READY,
    RETRYING,
    SKIPPED,
    TOKENS_KEPT,
    Activation,
    Head,
)
from flowcraft.engine.outcomes import complete, drop, fail, propagate
from flowcraft.graph import Graph
from flowcraft.model import RUN_INPUT, ErrorInfo, RunStatus, ValueKey

__all__ = [
    "Cancel", "Completed", "Dropped", "Effects", "EngineEvent", "Failed", "Parked", "Resent", "Tick", "Visit", "apply",
    "apply_completed", "due_work", "fresh_head", "run_status", "seal", "start",
]  # fmt: skip

PARK_BACKOFF = 5.0
_PARK_CAP = 300.0


@dataclass(frozen=True, slots=True)
class Visit:
    """The fence: which activation an outcome belongs to. An outcome of another one changes nothing."""

    node: int
    nonce: str
    visit: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Completed:
    """User code returned, at the attempt number ``attempts`` (0: the visit's), which ``took`` so many seconds.

    ``writes`` are context keys; MISSING deletes one.
    """

    visit: Visit
    output: Cell
    action: str | None = None
    writes: Mapping[str, Cell] | None = None
    attempts: int = 0
    took: float | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """User code failed; ``attempts`` is the number of the last attempt made, which ``took`` so many seconds;
    ``random`` spreads the retry's delay."""

    visit: Visit
    error: ErrorInfo
    retryable: bool = True
    fatal: bool = False
    attempts: int = 0
    random: float = 0.5
    took: float | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    """A draining visit is not worked on any more."""

    visit: Visit


@dataclass(frozen=True, slots=True)
class Parked:
    """A READY visit cannot be executed by the worker that got it."""

    visit: Visit
    reason: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the run as cancelled."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Resent:
    """The messages of these READY nodes are sent again; their activations stay."""

    nodes: Collection[int]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed. ``can`` tells whether the caller could execute a parked node's function now."""

    can: Callable[[int], bool]


EngineEvent = Completed | Failed | Dropped | Parked | Cancel | Resent | Tick


@dataclass(slots=True)
class Effects:
    """What a sealed draft wants done; ``ready`` and ``revoked`` are node numbers with their activations."""

    changed: bool
    terminal: bool
    ready: list[tuple[int, Activation]]
    revoked: list[tuple[int, Activation]]
    values: Mapping[ValueKey, Cell]
    deleted: Collection[ValueKey]
    facts: list[Fact]


def fresh_head(graph: Graph, now: float) -> Head:
    """The head of a run that has not started: everything pending."""
    head = Head(states=bytearray(graph.node_count), marks=bytearray(len(graph.src)), started_at=now)
    if graph.blueprint.timeout is not None:
        head.deadline = now + graph.blueprint.timeout
    for node, namers in enumerate(graph.namers):
        if namers and graph.in_lo[node] == graph.in_hi[node]:
            head.states[node] = OPEN
            head.ordinary[node] = SKIPPED
    return head


def start(draft: Draft, run_input: Cell, context: Mapping[str, Cell]) -> None:
    """Make the start nodes READY; the draft's head must be a fresh one."""
    draft.changed = True
    draft.write(RUN_INPUT, run_input)
    for key, cell in context.items():
        draft.write(ValueKey("context", key), cell)
    draft.note("run:started")
    if draft.head.deadline is not None:
        draft.wake(draft.head.deadline)
    for node in draft.graph.starts:
        draft.activate(node)
    draft.work.extend(draft.graph.unreached)
    propagate(draft)


def apply(draft: Draft, event: EngineEvent) -> bool:
    """Fold one event into the draft. False: it is stale and changed nothing."""
    head = draft.head
    if head.terminal:
        return False
    if isinstance(event, Cancel):
        if head.phase == "cancelling":
            return False
        stop(draft, "cancelling", event.reason)
    elif isinstance(event, Tick):
        if not _tick(draft, event):
            return False
    elif isinstance(event, Resent):
        _resend(draft, event.nodes)
    elif not _current(head, event.visit):
        return False
    elif isinstance(event, Completed):
        draft.measured = _measured(event)
        apply_completed(draft, event.visit.node, event.output, event.action, event.writes)
    else:
        return _apply_other(draft, event)
    draft.changed = True
    return True


def _measured(event: Completed | Failed) -> dict[str, object]:
    """What the history tells about the execution: how long it took, and of how many attempts it is the last."""
    told: dict[str, object] = {} if event.took is None else {"took": event.took}
    if event.attempts > event.visit.attempt:
        told["attempts"] = event.attempts
    return told


def _current(head: Head, visit: Visit) -> bool:
    activation = head.active.get(visit.node)
    return (
        activation is not None
        and activation.nonce == visit.nonce
        and activation.visit == visit.visit
        and activation.attempt == visit.attempt
        and head.states[visit.node] in (READY, DRAINING)
    )


def apply_completed(
    draft: Draft, node: int, output: Cell, action: str | None, writes: Mapping[str, Cell] | None
) -> None:
    """`Completed` for an activation that is known to be current; changes the draft without asking again."""
    if writes:
        for key, cell in writes.items():
            name = ValueKey("context", key)
            draft.erase(name) if cell is MISSING else draft.write(name, cell)
    complete(draft, node, output, action)
    if draft.work or draft.finals or draft.ended or draft.failed:
        propagate(draft)
    draft.changed = True


def _apply_other(draft: Draft, event: Failed | Dropped | Parked) -> bool:
    node = event.visit.node
    if isinstance(event, Failed):
        draft.measured = _measured(event)
        attempts = max(event.attempts, event.visit.attempt)
        fail(draft, node, event.error, retryable=event.retryable, fatal=event.fatal, attempts=attempts,
             random=event.random)  # fmt: skip
        draft.measured = {}  # it is not of the next outcome in this draft
    elif draft.head.states[node] == DRAINING:
        drop(draft, node)
    elif isinstance(event, Parked):
        _park(draft, node, event.reason)
    else:
        return False
    propagate(draft)
    draft.changed = True
    return True


def _park(draft: Draft, node: int, reason: str) -> None:
    old = draft.head.active[node]
    delay = min(PARK_BACKOFF * 2.0 ** min(old.resend, 6), _PARK_CAP)
    parked = Activation(
        draft.nonce, draft.now, old.visit, old.attempt, old.resend + 1, draft.now + delay, old.runs, old.before, reason
    )
    draft.note("node:parked", node, old.visit, old.attempt, reason=reason)
    draft.schedule(node, PARKED, parked)


def _tick(draft: Draft, event: Tick) -> bool:
    """Fire what is due; True if anything was."""
    head, now = draft.head, draft.now
    if head.deadline is not None and head.deadline <= now and head.phase == "running":
        stop(draft, "failing", "DeadlineExceeded: the run did not end in time")
        return True
    fired = False
    for node, old in list(head.active.items()):
        if head.states[node] == RETRYING and old.due <= now:
            fired = True
            draft.resume(node, Activation(draft.nonce, now, old.visit, old.attempt, 0, 0.0, old.runs, old.before))
        elif head.states[node] == PARKED and old.due <= now and event.can(node if old.runs < 0 else old.runs):
            fired = True  # one that this process cannot execute stays due for those that can
            draft.resume(node, Activation(draft.nonce, now, old.visit, old.attempt, 0, 0.0, old.runs, old.before))
    return fired


def _resend(draft: Draft, nodes: Collection[int]) -> None:
    for node in nodes:
        old = draft.head.active.get(node)
        if old is not None and draft.head.states[node] == READY:
            draft.head.active[node] = draft.altered(old, resend=old.resend + 1)
            draft.ready.append(node)


def due_work(head: Head, now: float, times: Times = TIMES) -> tuple[float | None, list[int], list[int]]:
    """For the ticker: when to look again, READY nodes whose message is due again, DRAINING nodes past their grace."""
    wake = head.deadline if head.phase == "running" else None
    overdue: list[int] = []
    drained: list[int] = []
    for node, activation in head.active.items():
        state = head.states[node]
        if state == READY:
            at = activation.at + resend_delay(activation.resend, times)
            if at <= now:
                overdue.append(node)
        elif state == DRAINING:
            at = activation.at + times.drain
            if at <= now:
                drained.append(node)
        else:
            at = activation.due
        wake = at if wake is None or at < wake else wake
    return wake, overdue, drained


def run_status(head: Head) -> RunStatus:
    """The status in the words that stores and people use."""
    if head.phase in ("completed", "failed", "cancelled", "cancelling"):
        return head.phase  # type: ignore[return-value]
    return "running"


def seal(draft: Draft) -> Effects:
    """Close the fold: end the run if nothing is active, and hand out what the caller must do."""
    head = draft.head
    if draft.changed and not head.active and not head.terminal:
        finish(draft)
    if draft.changed and draft.nonce:
        head.tokens = [*head.tokens[1 - TOKENS_KEPT :], draft.nonce]
    facts = draft.facts or []
    head.seq += len(facts)
    return Effects(
        changed=draft.changed,
        terminal=head.terminal,
        ready=[(node, head.active[node]) for node in draft.ready if node in head.active],
        revoked=draft.revoked,
        values=draft.values,
        deleted=draft.deleted,
        facts=facts,
    )
