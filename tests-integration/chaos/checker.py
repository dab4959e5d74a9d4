"""The judge: compares what was executed with what the store says, and names the cause of every repetition.

It knows nothing of workers but their lines, and nothing of the engine but its history and results.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from flowcraft.model import TERMINAL, Event

from .causes import Causes, Key, Repetition, Series
from .evidence import Clock, Echo, Execution, Outage, Story, Strike
from .settings import Settings

__all__ = ["Evidence", "Verdict", "Violation", "judge"]

#: From the ticker's question who holds the leases until it sends, at most, on a busy machine.
_ASKED = 1.0
_ENDS = frozenset(f"run:{status}" for status in TERMINAL)


@dataclass
class Evidence:
    """All that was recorded of a campaign. ``allowed``: by run, the keys of its permitted results.

    ``outages``: what was done to the backend and the ways to it · ``clocks``: how the processes took its time to be.
    """

    executions: Sequence[Execution]
    strikes: Sequence[Strike]
    stories: Mapping[str, Story]
    allowed: Mapping[str, Collection[str]]
    started: Collection[str]
    resends: Sequence[Echo] = ()
    outages: Sequence[Outage] = ()
    clocks: Sequence[Clock] = ()
    #: What went wrong with the processes themselves.
    troubles: Sequence[str] = ()
    messages_left: int = 0


@dataclass(frozen=True)
class Violation:
    """A promise that was broken."""

    promise: str
    text: str


@dataclass
class Verdict:
    """What the checker found. ``in_flight``: by strike, executions that were going on or not yet committed."""

    violations: list[Violation] = field(default_factory=list[Violation])
    repetitions: list[Repetition] = field(default_factory=list[Repetition])
    in_flight: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    fenced: int = 0

    def broken(self, promise: str, text: object) -> None:
        self.violations.append(Violation(promise, str(text)))

    @property
    def causes(self) -> Counter[str]:
        """How many repetitions each cause has."""
        return Counter(repetition.cause or "unknown" for repetition in self.repetitions)


def judge(settings: Settings, evidence: Evidence) -> Verdict:
    """Check every promise."""
    verdict = Verdict()
    settled: dict[Key, float] = {}
    for run in evidence.started:
        story = evidence.stories.get(run) or Story(run, "unknown")
        _judge_run(verdict, story, evidence.allowed[run])
        settled |= _settlements(story)
    causes = Causes(settings, evidence.strikes, evidence.outages, evidence.clocks)
    _judge_executions(verdict, settings, evidence, settled, causes)
    _judge_messages(verdict, settings, evidence, causes)
    for strike in evidence.strikes:
        verdict.in_flight.append(_in_flight(strike, evidence.executions, settled))
    for trouble in evidence.troubles:
        verdict.broken("processes behave", trouble)
    return verdict


# --- runs ------------------------------------------------------------------------------------------------------------


def _judge_run(verdict: Verdict, story: Story, allowed: Collection[str]) -> None:
    events = story.events
    if story.status not in TERMINAL:
        verdict.broken("none lost", f"{story.run} is {story.status}: {[_told(e) for e in events[-4:]]}")
        return
    if [event.seq for event in events] != list(range(1, len(events) + 1)):
        verdict.broken("history without gaps", f"{story.run}: {[event.seq for event in events]}")
    types = Counter(event.type for event in events)
    if types["run:started"] != 1:
        verdict.broken("started once", f"{story.run} has {types['run:started']} starts")
    ends = [event for event in events if event.type in _ENDS]
    if len(ends) != 1 or events[-1] is not ends[0] or ends[0].type != f"run:{story.status}":
        verdict.broken("none finished twice", f"{story.run} is {story.status}: {[_told(e) for e in ends]}")
    commitments = Counter(_commitment(event, function) for event, function in _with_functions(events))
    for (what, node, visit), count in commitments.items():
        if what and count > 1:
            verdict.broken("no visit committed twice", f"{story.run}/{node}#{visit}: {what}, {count} times")
    if story.key not in allowed:
        verdict.broken("right result", f"{story.run} came to {story.key}, allowed: {sorted(allowed)[:3]}")
    for node, (output, written) in story.written.items():
        if output != written:
            verdict.broken("no write lost", f"{story.run}: {node} made {output}, but wrote {written}")


def _commitment(event: Event, function: str) -> tuple[str, str, int]:
    """What may happen once: a visit of a function ends, with whichever outcome, or an attempt of it."""
    if event.type in ("node:retrying", "node:fallback"):
        return (f"{event.type} after attempt {event.attempt}", function, event.visit)
    failed_later = str(event.data.get("error", "")).startswith(("ConditionError", "VisitLimitReached"))
    if event.type not in ("node:completed", "node:failed") or failed_later:
        return ("", "", 0)
    return ("committed", function, event.visit)


def _with_functions(events: Sequence[Event]) -> Iterator[tuple[Event, str]]:
    """The events of nodes, each with the node whose function ran: the node itself, or the fallback that stood in."""
    standing_in: dict[str, str] = {}
    for event in events:
        if event.node is not None:
            yield event, str(event.data.get("by") or standing_in.get(event.node, event.node))
            if event.type == "node:fallback":
                standing_in[event.node] = str(event.data["fallback"])
            elif event.type != "node:retrying":
                standing_in.pop(event.node, None)


def _told(event: Event) -> str:
    return f"{event.seq} {event.type} {event.node or ''}"


def _settlements(story: Story) -> dict[Key, float]:
    """When each attempt's outcome was committed, as the history tells it: epoch seconds."""
    found: dict[Key, float] = {}
    for event, function in _with_functions(story.events):
        if event.type in ("node:completed", "node:failed", "node:retrying", "node:fallback", "node:cancelled"):
            highest = event.attempt or 100  # those without a number end all attempts
            for attempt in range(1, highest + 1):
                found.setdefault((story.run, function, event.visit, attempt), event.at)
    return found


# --- executions ------------------------------------------------------------------------------------------------------


def _judge_executions(
    verdict: Verdict, settings: Settings, evidence: Evidence, settled: Mapping[Key, float], causes: Causes
) -> None:
    for group in _series(evidence.executions).values():
        for place, again in enumerate(group):
            before = [earlier for earlier in group[:place] if earlier.keys & again.keys]
            at = settled.get(again.first.key, float("inf"))
            if at < again.first.wall and not causes.was_late(at, again, before):
                verdict.broken("nothing is executed after its commit", f"{again}: {again.first.wall - at:.3f} s after")
            if before:
                _judge_repetition(verdict, causes.attribute(before[-1], again), settings)
    executed = {(e.run, e.node, e.visit) for e in evidence.executions}
    for story in evidence.stories.values():
        for event, function in _with_functions(story.events):
            if event.type == "node:completed" and (story.run, function, event.visit) not in executed:
                verdict.broken("what completed was executed", f"{story.run}/{function}#{event.visit}")


def _series(executions: Sequence[Execution]) -> dict[tuple[str, str, int], list[Series]]:
    """By visit, in the order in which they began."""
    found: dict[tuple[str, str, int], list[Series]] = defaultdict(list)
    for execution in sorted(executions, key=lambda e: e.begin):
        group = found[execution.key[:3]]
        for series in reversed(group):
            last = series.attempts[-1]
            same = (last.process, last.nonce, last.attempt + 1)
            if same == (execution.process, execution.nonce, execution.attempt) and last.how == "error":
                series.attempts.append(execution)
                break
        else:
            group.append(Series([execution]))
    return found


def _judge_repetition(verdict: Verdict, repetition: Repetition, settings: Settings) -> None:
    first, again = repetition.first, repetition.again
    verdict.repetitions.append(repetition)
    verdict.fenced += first.end is not None and first.end > again.begin
    if not repetition.cause:
        apart = "" if first.end is None else f", {again.begin - first.end:+.3f} s later"
        verdict.broken("every repetition has a cause", f"{again} repeats {first}{apart}")
    elif settings.calm:
        verdict.broken("no repetition", f"{again} repeats {first}: {repetition.cause}")


def _in_flight(strike: Strike, executions: Sequence[Execution], settled: Mapping[Key, float]) -> tuple[int, int]:
    """How many executions were going on in the struck process, and how many had ended and were not yet committed."""
    mine = [e for e in executions if e.process == strike.process and e.begin <= strike.at]
    going_on = sum(map(strike.hit, mine))
    ended = [e for e in mine if e.end is not None and e.end < strike.at and e.attempt >= 1]
    pending = sum(settled.get(e.key, float("inf")) >= strike.wall and strike.at - (e.end or 0) < 10 for e in ended)
    return going_on, pending


# --- messages --------------------------------------------------------------------------------------------------------


def _judge_messages(verdict: Verdict, settings: Settings, evidence: Evidence, causes: Causes) -> None:
    by_activation: dict[tuple[str, str], list[Execution]] = defaultdict(list)
    for execution in evidence.executions:
        by_activation[execution.owner, execution.nonce].append(execution)
    for sent in evidence.resends:
        for e in by_activation.get((sent.owner, sent.nonce), ()):
            if e.begin + _ASKED < sent.at and e.end is not None and e.end > sent.at and not causes.excuse(sent, e):
                verdict.broken("nothing is sent again while it is worked on", f"{e}, sent {sent.at - e.begin:.1f} s on")
    # A message is acked after the commit: that of a killed visit comes again by itself, and soon. (Visits that a worker
    # kept have no message of their own, and some messages meet a lease that has not quite expired: the ticker's.)
    if settings.signal == "KILL" and settings.resend > settings.lease_ttl + settings.visibility:
        pairs = [(r.first.first, r.again.first) for r in verdict.repetitions if r.cause.startswith("killed")]
        own = [(first, again) for first, again in pairs if not first.kept and first.nonce == again.nonce]
        late = [again for first, again in own if again.resend > first.resend]
        if len(late) >= 3 and len(late) > len(own) / 3:
            verdict.broken(
                "acked after the commit", f"the messages of {len(late)} of {len(own)} killed visits were gone"
            )
    if evidence.messages_left:
        verdict.broken("nothing is left", f"{evidence.messages_left} messages in the queue")
