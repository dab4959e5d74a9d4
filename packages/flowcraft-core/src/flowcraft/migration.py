"""Moving a run that goes on to another blueprint: one commit, planned again as long as somebody else commits first."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, cast

from flowcraft.blueprint import Blueprint
from flowcraft.committer import Committer
from flowcraft.engine.draft import MISSING, Cell, Draft
from flowcraft.engine.head import Head
from flowcraft.engine.migrate import Migrated, migrate
from flowcraft.errors import RunNotFound, UnknownOutcome
from flowcraft.folding import Unread, fold_events, head_index, job_of
from flowcraft.graph import Graph
from flowcraft.history import carrying
from flowcraft.model import Change, ValueKey
from flowcraft.ports import Clock, CoordinationStore, EventBus, JobQueue, RunStore
from flowcraft.registry import Definition
from flowcraft.runstate import RunState, RuntimeParts, pack_head
from flowcraft.writing import Aftermath

__all__ = ["Migration"]

_LONGEST_WAIT: Final = 0.25


@dataclass(frozen=True, slots=True)
class _Plan:
    """A commit, and what follows it."""

    change: Change
    made: Migrated
    graph: Graph


@dataclass(slots=True)
class _Read:
    """Values that planning asked for, and the version of the run that they were read for."""

    version: str
    cells: dict[ValueKey, Cell] = field(default_factory=dict[ValueKey, Cell])


def _cell(cells: Mapping[ValueKey, Cell], key: ValueKey) -> Cell:
    if key not in cells:
        raise Unread(key)
    return cells[key]


class Migration:
    """Made by an `Adapter`; needs no worker in its process."""

    def __init__(
        self,
        runtime: RuntimeParts,
        committer: Committer,
        *,
        store: RunStore,
        queue: JobQueue,
        coordination: CoordinationStore,
        events: EventBus | None,
        mint: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._runtime = runtime
        self._committer = committer
        self._store = store
        self._queue = queue
        self._coordination = coordination
        self._events = events
        self._mint = mint

    async def run(self, run_id: str, to: Definition | Blueprint | str) -> bool:
        """See `Adapter.migrate_run`."""
        graph = self._runtime.resolve(to)
        await self._store.save_blueprint(graph.content_hash, graph.blueprint.to_json().encode())
        conflicts, plan, read = 0, None, _Read("")
        while True:
            await self._committer.time.sync()
            state = await self._committer.load(run_id)
            if state is None:
                raise RunNotFound(f"there is no run {run_id!r}: it never was, or its retention time is over")
            if plan is not None and plan.change.token in state.committed().tokens:
                break  # an outcome that was not known: it is committed
            if state.graph.content_hash == graph.content_hash:
                return False
            read = read if read.version == state.version else _Read(state.version)
            try:
                plan = await self._plan(state, graph, read.cells)
                if (await self._store.commit([plan.change]))[0].applied:
                    break
            except UnknownOutcome:
                continue
            except Unread as unread:  # a loop of the new blueprint is decided at once, say
                found = await self._store.read_values(run_id, [unread.key])
                read.cells[unread.key] = found.get(unread.key, MISSING)
                continue
            conflicts += 1
            clock: Clock = self._runtime.clock
            await clock.sleep(random.random() * min(0.002 * 2.0**conflicts, _LONGEST_WAIT))  # noqa: S311 - it only spreads load
        await self._after(plan)
        return True

    async def _plan(self, state: RunState, graph: Graph, cells: Mapping[ValueKey, Cell]) -> _Plan:
        """The commit on the run as it is now: all that is read of ``state`` is read before anything is awaited."""
        run_id, old, raw, version = state.run_id, state.graph, state.raw, state.version
        now, token, rules = self._committer.time.now(), self._mint(), self._committer.rules
        codec = self._runtime.codec

        def draft(graph: Graph, head: Head) -> Draft:
            made = Draft(
                graph, head, read=partial(_cell, cells), decode=lambda cell: codec.decode(cast("bytes", cell)),
                encode=codec.encode, record=True, times=rules.times,
            )  # fmt: skip
            made.begin(token, now)
            return made

        made = migrate(old, graph, state.committed(), draft=draft)
        head, effects = made.head, made.effects
        packed = pack_head(graph.content_hash, head)
        events = fold_events(graph, run_id, head, effects, now, codec)
        moved = await self._store.read_values(run_id, [key for key, _ in made.moved]) if made.moved else {}
        values = {key: cast("bytes", cell) for key, cell in effects.values.items()}
        values |= {to: moved[key] for key, to in made.moved if key in moved}
        gone: set[ValueKey] = {key for key in moved if key not in values}
        change = Change(
            run_id=run_id,
            version=version,
            token=token,
            head=packed,
            index=head_index(head, now, rules.retention),
            values=values,
            deleted=gone | set(effects.deleted),
            jobs=[job_of(graph, run_id, n, activation, rules.queue_name) for n, activation in effects.ready],
            events=carrying(events, raw, packed) if rules.limits.history else events,
            blueprint=(graph.blueprint.id, graph.content_hash),
        )
        return _Plan(change, made, graph)

    async def _after(self, plan: _Plan) -> None:
        """Ring the doorbells; whatever is lost here, the ticker makes up for."""
        change, rules, committer = plan.change, self._committer.rules, self._committer
        if plan.made.effects.children and committer.on_unneeded is not None:
            committer.on_unneeded(change.run_id, plan.made.effects.children)
        if plan.made.effects.terminal and plan.made.head.parent is not None and committer.on_ended is not None:
            committer.on_ended(change.run_id)
        aftermath = Aftermath(self._queue, self._coordination, self._events)
        aftermath.jobs = [] if rules.bound else list(change.jobs)
        aftermath.told = [event.told() for event in change.events]
        revoked = [job_of(plan.graph, change.run_id, n, a, "") for n, a in plan.made.effects.revoked]
        aftermath.revoked = [job.claim_key for job in revoked]
        await aftermath.run()
