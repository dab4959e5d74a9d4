"""A run store beside the one in memory. Needs Hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from flowcraft.conformance.asking import due_ids, listed
from flowcraft.conformance.expecting import Violated
from flowcraft.conformance.making import event
from flowcraft.conformance.sidebyside import SideBySide, both
from flowcraft.memory import MemoryRunStore
from flowcraft.model import Change, Committed, Created, Event, Index, NewRun, StoredHead, ValueKey
from flowcraft.ports import RunStore

__all__ = ["StoreBesideMemory"]

T = TypeVar("T")

_KEYS = [ValueKey("context", "k"), ValueKey("context", "K"), ValueKey("output", "k", 1), ValueKey("output", "", 0)]
_ALL = [("run", "a"), ("run", "é/'"), ("lease", "a")]
kinds = st.sampled_from(["run", "lease"])
names = st.sampled_from(_ALL)
times = st.sampled_from([None, 0.0, 1.0, 2.5, 1_700_000_000.25])
statuses = st.sampled_from(["running", "failed", "awaiting"])
contents = st.one_of(st.sampled_from([b"", b"null", b"\x00\xff"]), st.binary(max_size=40))
values = st.dictionaries(st.sampled_from(_KEYS), contents, max_size=3)
pages = st.integers(1, 4)


@dataclass(frozen=True)
class _Step:
    """A change as drawn; ``age``: how many versions ago it was planned."""

    name: tuple[str, str]
    age: int
    index: Index
    head: bytes
    values: Mapping[ValueKey, bytes]
    deleted: list[ValueKey]
    events: int
    blueprint: tuple[str, str] | None

    def __str__(self) -> str:
        kind, run_id = self.name
        parts = [f"{kind} {run_id}", f"of {self.age} versions ago", str(self.index), f"head {self.head!r}"]
        parts += [f"set {tuple(key)} to {data!r}" for key, data in self.values.items()]
        parts += [f"delete {tuple(key)}" for key in self.deleted]
        return ", ".join([*parts, f"{self.events} events", f"blueprint {self.blueprint}"])


indexes = st.builds(Index, statuses, times, st.sampled_from([1.0, 2.0, 7.5]))
steps = st.builds(
    _Step, names, st.sampled_from([0, 0, 0, 1, 2]), indexes, contents, values,
    st.lists(st.sampled_from(_KEYS), max_size=2, unique=True), st.integers(0, 2),
    st.sampled_from([None, None, ("b2", "h2")]),
)  # fmt: skip


def _shown(stored: StoredHead | None) -> tuple[object, ...] | None:
    """All of a document but its version, which is the store's own."""
    if stored is None:
        return None
    values = {key: bytes(data) for key, data in stored.values.items()}
    return stored.run_id, bytes(stored.head), stored.token, stored.index, values, stored.fingerprint


def _result(result: Committed) -> tuple[object, ...]:
    return result.applied, _shown(result.stored)


async def _events(store: RunStore, run_id: str) -> tuple[Event, ...]:
    return (await store.read_events(run_id)).items


async def _create(new: NewRun, store: RunStore) -> Created:
    return await store.create(new)


class StoreBesideMemory(SideBySide):
    """Ids, kinds, values, times and versions at random; what both stores say is compared, versions aside."""

    def __init__(self) -> None:
        super().__init__()
        self.actual: RunStore = self.driver.env.store
        self.model = MemoryRunStore(self.driver.env.clock)
        #: By kind and id: the versions that were ever loaded, of the target and of the model.
        self.versions: dict[tuple[str, str], list[tuple[str, str]]] = {}
        self.numbers = 0
        self.history = self.actual.capabilities.history

    def number(self) -> int:
        """One that was not there before."""
        self.numbers += 1
        return self.numbers

    def both(self, what: str, ask: Callable[[RunStore], Coroutine[Any, Any, object]]) -> None:
        """Ask both and compare."""
        self.same(what, *self.driver.do(both(ask(self.actual), ask(self.model))))

    def look(self, name: tuple[str, str]) -> None:
        """Load a document on both sides, compare it with all that belongs to it, and remember the versions."""
        kind, run_id = name[0], self.own + name[1]
        loading = both(*(store.load(run_id, want=_KEYS, kind=kind) for store in (self.actual, self.model)))
        loaded, expected = self.driver.do(loading)
        self.same(f"load {name}", _shown(loaded), _shown(expected))
        if loaded is not None and expected is not None:
            pair = (loaded.version, expected.version)
            if pair not in self.versions.setdefault(name, []):
                self.versions[name].append(pair)
        if self.history and kind == "run":
            self.both(f"events of {name}", lambda store: _events(store, run_id))

    @rule(name=names, index=indexes, values=values, created=st.integers(0, 9), events=st.integers(0, 2))
    def create(
        self, name: tuple[str, str], index: Index, values: dict[ValueKey, bytes], created: int, events: int
    ) -> None:
        """Create a document."""
        number, run_id = self.number(), self.own + name[1]
        rows = [event(run_id, seq, n=number) for seq in range(1, events + 1)] if name[0] == "run" else []
        made = NewRun(
            run_id, f"f{number}", f"t{number}", b"head", index, 1000.0 * created + number, f"b{created % 2}", "h",
            values, events=rows, kind=name[0],
        )  # fmt: skip
        self.both(f"create {name} {index} {values}", lambda store: store.create(made))
        self.look(name)

    @initialize()
    def begin(self) -> None:
        """Create all documents, so that there is something to change."""
        for kind, run_id in _ALL:
            made = NewRun(
                self.own + run_id, "f", "t", b"head", Index("running", None, 1.0), float(self.number()), "b0", "h",
                kind=kind,
            )  # fmt: skip
            self.both(f"create {kind} {run_id}", partial(_create, made))
            self.look((kind, run_id))

    @rule(step=steps)
    def commit(self, step: _Step) -> None:
        """Change a document."""
        self.commit_all([step])

    @rule(step=steps)
    def commit_late(self, step: _Step) -> None:
        """Change a document by a version of before."""
        self.commit_all([replace(step, age=1 + step.age)])

    @rule(drawn=st.lists(steps, min_size=2, max_size=3, unique_by=lambda step: step.name))
    def commit_all(self, drawn: list[_Step]) -> None:
        """Change some documents by versions that were seen, the latest or older ones."""
        planned = [
            (step, self.versions[step.name][-1 - step.age :][0]) for step in drawn if self.versions.get(step.name)
        ]
        if not planned:
            return
        numbers = [self.number() for _ in planned]
        last = {step.name: self._last_event(step.name) for step, _ in planned}

        def planned_on(step: _Step, version: str, number: int) -> Change:
            (kind, name), first = step.name, last[step.name] + 1
            run_id, count = self.own + name, step.events if kind == "run" else 0
            return Change(
                run_id, version, f"t{number}", step.head, step.index, step.values,
                [key for key in step.deleted if key not in step.values], kind=kind, blueprint=step.blueprint,
                events=[event(run_id, seq, n=number) for seq in range(first, first + count)],
            )  # fmt: skip

        def changes(side: int) -> list[Change]:
            drawn = zip(planned, numbers, strict=True)
            return [planned_on(step, pair[side], number) for (step, pair), number in drawn]

        actual, expected = self.driver.do(both(self.actual.commit(changes(0)), self.model.commit(changes(1))))
        self.same(f"commit {' and '.join(map(str, drawn))}", [*map(_result, actual)], [*map(_result, expected)])
        for step, _ in planned:
            self.look(step.name)

    @rule(name=names, wake_at=times, current=st.booleans())
    def defer(self, name: tuple[str, str], wake_at: float | None, current: bool) -> None:
        """Defer a document, with its token or with another."""
        token = self._token(name, current=current)
        self.both(
            f"defer {name} to {wake_at}, {current=}",
            lambda store: store.defer(self.own + name[1], token, wake_at or 5.0, kind=name[0]),
        )
        self.look(name)

    @rule(name=names, current=st.booleans())
    def delete(self, name: tuple[str, str], current: bool) -> None:
        """Remove a document, with its token or with another."""
        token = self._token(name, current=current)
        self.both(f"delete {name}, {current=}", lambda store: store.delete(self.own + name[1], token, kind=name[0]))
        self.look(name)

    @rule(kind=kinds, now=st.sampled_from([0.0, 1.0, 2.0, 1_700_000_001.0]), limit=pages)
    def due(self, kind: str, now: float, limit: int) -> None:
        """What is due, in pages; what is due at the same time comes in any order."""
        expected = sorted(self._own(self.driver.do(due_ids(self.model, now, kind=kind))))

        async def found() -> list[str]:
            return sorted(self._own(await due_ids(self.actual, now, kind=kind, limit=limit)))

        self.same(f"due {kind} at {now} by {limit}", self._settled(found, expected), expected)

    @rule(kind=kinds, status=st.none() | statuses, blueprint=st.sampled_from([None, "b0", "b1", "b2"]), limit=pages)
    def list_all(self, kind: str, status: str | None, blueprint: str | None, limit: int) -> None:
        """What is listed, in pages."""

        async def rows(store: RunStore, size: int) -> list[object]:
            found = await listed(store, kind=kind, status=status, blueprint_id=blueprint, limit=size)
            return [row for row in found if row.run_id.startswith(self.own)]

        expected = self.driver.do(rows(self.model, 100))
        actual = self._settled(lambda: rows(self.actual, limit), expected)
        self.same(f"list {kind} {status} {blueprint} by {limit}", actual, expected)

    @rule(name=st.sampled_from(["h1", "h2"]), data=st.none() | contents)
    def blueprint(self, name: str, data: bytes | None) -> None:
        """Store or remove a blueprint."""
        if data is None:
            self.both(f"delete blueprint {name}", lambda store: store.delete_blueprint(self.own + name))
        else:
            self.both(f"save blueprint {name} {data!r}", lambda store: store.save_blueprint(self.own + name, data))
        self.both(f"load blueprint {name}", lambda store: store.load_blueprint(self.own + name))

    def teardown(self) -> None:
        """Remove what is there, so that listings stay short."""
        for kind, run_id in self.versions:
            stored = self.driver.do(self.actual.load(self.own + run_id, kind=kind))
            if stored is not None:
                self.driver.do(self.actual.delete(self.own + run_id, stored.token, kind=kind))

    def _token(self, name: tuple[str, str], *, current: bool) -> str:
        stored = self.driver.do(self.model.load(self.own + name[1], kind=name[0]))
        return stored.token if stored is not None and current else "another"

    def _last_event(self, name: tuple[str, str]) -> int:
        return len(self.driver.do(self.model.read_events(self.own + name[1])).items)

    def _own(self, found: list[str]) -> list[str]:
        return [run_id for run_id in found if run_id.startswith(self.own)]

    def _settled(self, ask: Callable[[], Coroutine[Any, Any, list[T]]], expected: list[T]) -> list[T]:
        """The target's answer, as soon as it is the expected one; else the last one within the time it may lag."""
        env, seen = self.driver.env, list[T]()

        async def right() -> bool:
            seen[:] = await ask()
            return seen == expected

        async def settle() -> None:
            try:
                await env.eventually(right, env.target.settle, "")
            except Violated:
                return

        self.driver.do(settle())
        return seen
