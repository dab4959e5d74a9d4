"""What all processes share: the memory backend, with a queue that plays up, a witness of commits, and failovers."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

import copy
import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from flowcraft.engine.draft import Times
from flowcraft.engine.head import Head
from flowcraft.engine.slots import NODE_MASK
from flowcraft.engine.timers import due_work
from flowcraft.memory import MemoryCoordination, MemoryJobQueue, MemoryRunStore
from flowcraft.memory.store import _Document, _Kind
from flowcraft.model import TERMINAL, Change, Committed, Created, Event, Job, NewRun
from flowcraft.runstate import unpack_head

from ..property.ledger import Written
from .links import SimClock
from .ports import Weather
from .trace import Trace

__all__ = ["PATIENCE", "FlushedCoordination", "Snapshot", "Violation", "WildQueue", "Witness"]

#: Seconds; a tenth of what they are by default, so that repairs take less of the simulated time.
PATIENCE: Final = Times(resend=6.0, drain=6.0)
_REOPENS = frozenset({"run:restarted", "run:undoing"})
_ENDS = frozenset(f"run:{status}" for status in TERMINAL)


class Violation(AssertionError):
    """An invariant does not hold. ``name`` is that of its check."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


class WildQueue(MemoryJobQueue):
    """Loses, repeats and delays messages; can become what it was some time ago."""

    def __init__(self, clock: SimClock, weather: Weather, trace: Trace, witness: Witness, visibility: float) -> None:
        super().__init__(clock, visibility=visibility)
        self._weather = weather
        self._trace = trace
        self._witness = witness

    def push(self, jobs: Sequence[Job], *, delay: float = 0.0) -> None:
        """Send, more or less."""
        weather = self._weather
        for job in jobs:
            self._witness.sent(job)
            if (weather.rates["first lost"] and not job.resend) or weather.strikes("lost"):
                weather.counts["first lost"] += bool(weather.rates["first lost"] and not job.resend)
                self._trace.add("queue", "loses", job.run_id, job.node, job.visit)
                continue
            copies = 1
            while copies < 4 and weather.strikes("twice"):
                copies += 1
            for _ in range(copies):
                late = weather.random() ** 3 * 20.0 if weather.strikes("late") else 0.0
                super().push([job], delay=delay + late)

    def messages(self) -> list[tuple[str, int, Job | bytes]]:
        """All that it holds."""
        ready = [entry[3] for heap in self._ready.values() for entry in heap]
        hidden = [entry[2] for entry in self._hidden if entry[2].hidden_until == entry[0]]
        return [(m.queue, m.priority, m.body) for m in dict.fromkeys([*ready, *hidden]) if not m.gone]

    def fail_over(self, messages: Sequence[tuple[str, int, Job | bytes]]) -> None:
        """Hold these, and nothing else."""
        for message in [entry[3] for heap in self._ready.values() for entry in heap]:
            if not message.gone:
                self._remove(message)
        for _, _, message in list(self._hidden):
            if not message.gone and message.hidden_until is not None:
                self._remove(message)
        for _, _, body in messages:
            if isinstance(body, Job):
                MemoryJobQueue.push(self, [body])


class _Written(Written):
    """Decodes its head once for each commit."""

    _decoded: tuple[bytes, Head] | None = None

    @property
    def head(self) -> Head:
        """As it is stored now."""
        data = (self.commits[-1] if self.commits else self.made).head
        if self._decoded is None or self._decoded[0] is not data:
            self._decoded = (data, unpack_head(data)[1])
        return self._decoded[1]


class Witness(MemoryRunStore):
    """The run store, and what every commit must keep to, looked at when it is applied."""

    def __init__(self, clock: SimClock, trace: Trace) -> None:
        super().__init__(clock)
        self._trace = trace
        #: What was really written, run by run, without what a failover took back.
        self.runs: dict[str, Written] = {}
        self.tokens: dict[str, set[str]] = defaultdict(set)
        self.last: dict[str, int] = {}
        self.status: dict[str, str] = {}
        self.ended: Counter[str] = Counter()
        self.commits = 0
        self.violations: list[Violation] = []
        self.failovers: list[float] = []

    async def create(self, new: NewRun) -> Created:
        """See the protocol."""
        created = await super().create(new)
        if created.made and new.kind == "run":
            self.last[new.run_id] = 0
            self.runs[new.run_id] = _Written(new, self.commits + 1)
            self._took(new.run_id, new.token, new.index.status, new.events, "")
            self.looked_at_in_time(new.run_id, new.index.wake_at)
        return created

    def _apply(self, change: Change, events: Mapping[int, Event | str]) -> Committed:
        result = super()._apply(change, events)
        if result.applied and change.kind == "run":
            self.runs[change.run_id].commits.append(change)
            self.runs[change.run_id].numbers.append(self.commits + 1)
            self._took(change.run_id, change.token, change.index.status, change.events, self.status[change.run_id])
            self.looked_at_in_time(change.run_id, change.index.wake_at)
        return result

    def _took(self, run_id: str, token: str, status: str, events: Sequence[Event], before: str) -> None:
        self.commits += 1
        self.tokens[run_id].add(token)
        numbers = [event.seq for event in events if event.seq]
        expected = list(range(self.last[run_id] + 1, self.last[run_id] + 1 + len(numbers)))
        if numbers != expected or not numbers:
            self.blame("I6 one event, one number", f"run {run_id}: {numbers} follow {self.last[run_id]}")
        if [bool(event.head) for event in events] != [False] * (len(events) - 1) + [True]:
            self.blame("I6 each commit carries its head", f"run {run_id}: {numbers}")
        kinds = [event.type for event in events]
        if before in TERMINAL and not _REOPENS.intersection(kinds):
            self.blame("I5 a terminal status never changes", f"run {run_id} was {before}, then {kinds}")
        ends = sum(kind in _ENDS for kind in kinds)
        if ends != (status in TERMINAL) and not _REOPENS.intersection(kinds):
            self.blame("I5 the end is published once", f"run {run_id} is {status} by {kinds}")
        self.last[run_id] = numbers[-1]
        self.status[run_id] = status
        self.ended[run_id] += status in TERMINAL
        told = (f"{e.type}:{e.node or ''}" + (f"#{e.visit}" if e.visit else "") for e in events)
        self._trace.add("store", "holds", f"{run_id}:{token}", status, *told)

    def looked_at_in_time(self, run_id: str, wake_at: float | None) -> None:
        """Nothing that a head wants, a timer, a deadline or a message again, is due before a ticker finds the run."""
        head = self.runs[run_id].head
        # Without items: one whose time came while its batch's window was full is looked at late (seed 2501; open).
        head = replace(head, active={slot: a for slot, a in head.active.items() if slot <= NODE_MASK})
        wanted = None if head.terminal else due_work(head, 0.0, PATIENCE).wake
        if wanted is not None and (wake_at is None or wake_at > wanted + 1e-6):
            self.blame("I1 looked at in time", f"run {run_id} wants something at {wanted}, and is due at {wake_at}")

    def sent(self, job: Job) -> None:
        """A message is on its way: the commit that it speaks of must have been applied before."""
        document = self._find("run", job.run_id)
        if job.nonce not in self.tokens[job.run_id] and (document is None or document.token != job.nonce):
            self.blame("I4 sent after the commit", f"{job} is sent, but nothing of it is committed")

    def blame(self, name: str, text: str) -> None:
        """Remember what is wrong: raised in here, it would be taken for trouble of the store."""
        self.violations.append(Violation(name, text))
        self._trace.add("VIOLATION", name, text)

    # ---- failover

    def snapshot(self) -> Snapshot:
        """All documents as they are now."""
        kinds = {name: _copied(kind) for name, kind in self._kinds.items()}
        runs = {run_id: (written, len(written.commits)) for run_id, written in self.runs.items()}
        return Snapshot(kinds, runs)

    def fail_over(self, kept: Snapshot, at: float) -> None:
        """Be as it was then: what was committed since is lost."""
        self._kinds = {name: _copied(kind) for name, kind in kept.kinds.items()}
        self.runs = {
            run_id: _Written(written.made, written.number, written.commits[:length], written.numbers[:length])
            for run_id, (written, length) in kept.runs.items()
        }
        runs = self._kinds["run"].documents if "run" in self._kinds else {}
        self.last = {run_id: len(document.events) for run_id, document in runs.items()}
        self.status = {run_id: document.index.status for run_id, document in runs.items()}
        self.failovers.append(at)
        numbers = [document.number for kind in self._kinds.values() for document in kind.documents.values()]
        self._numbers = itertools.count(max(numbers, default=0) + 1000)

    def run_ids(self) -> list[str]:
        """All runs that there are."""
        return list(self._kinds["run"].documents) if "run" in self._kinds else []

    def due_runs(self) -> list[str]:
        """Runs that a ticker would look at some time."""
        documents = self._kinds["run"].documents if "run" in self._kinds else {}
        return [run_id for run_id, document in documents.items() if document.index.wake_at is not None]

    def document(self, run_id: str) -> Any:
        """What is stored of a run."""
        return self._kinds["run"].documents[run_id]


@dataclass(frozen=True)
class Snapshot:
    """What a replica had, when it was as far as that."""

    kinds: Mapping[str, _Kind]
    runs: Mapping[str, tuple[Written, int]]


def _copied(kind: _Kind) -> _Kind:
    made = _Kind()
    for document in kind.documents.values():
        twin: _Document = copy.copy(document)
        twin.values, twin.events = dict(document.values), dict(document.events)
        made.add(twin)
    return made


class FlushedCoordination:
    """A coordination store that can forget everything."""

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock
        self.inner = MemoryCoordination(clock)

    def flush(self) -> None:
        """Forget everything."""
        self.inner.__init__(self._clock)  # type: ignore[misc] # the same object: who has it in hand goes on with it

    def leases(self) -> list[str]:
        """Those that are held now."""
        inner = self.inner
        return [key for key in inner._leases if inner._leases.alive(key) is not None]

    def slots(self) -> list[str]:
        """Slots of limits that are taken now."""
        now = self._clock.monotonic()
        return [key for key, holders in self.inner._slots.items() if any(until > now for until in holders.values())]
