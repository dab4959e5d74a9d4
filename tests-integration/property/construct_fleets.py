"""Random workflows of all constructs on three workers, with people who meddle: every commit, told to the oracles."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flowcraft.engine.head import FAILED_LATE
from flowcraft.graph import Graph, compile_graph
from flowcraft.nodes import NodeContext

from ..oracle.behaviour import without_errors
from .accounts import Account
from .executions import Executions
from .families import Family, Terms, draw_family
from .fleets import ScatteredQueue
from .ledger import Ledger
from .people import Meddling, People
from .replaying import assert_same_result, slowly
from .worlds import World

__all__ = ["Crew", "check_crew"]

_PEOPLE = 5
_USUAL = Meddling()


@dataclass(frozen=True)
class Crew:
    """What goes wrong: messages come ``copies`` times and in any order, ``kills`` workers die, and people meddle.

    ``retries``: how often a run that has ended is tried again or rolled back; ``lacking``: one worker lacks a function.
    """

    copies: int = 1
    kills: int = 0
    meddling: Meddling = _USUAL
    retries: int = 0
    lacking: bool = False


class _Voyage:
    """Some families at the same time on one fleet."""

    def __init__(self, seeds: Sequence[int], crew: Crew) -> None:
        self.crew = crew
        self.source = random.Random(seeds[0])
        terms = Terms((0.0, 0.0, 0.2, 3.0, 70.0), hours=0.01, late=not crew.kills, other=crew.lacking)
        self.families = [draw_family(random.Random(seed), f"graph {seed}", terms) for seed in seeds]
        blueprints = [blueprint for family in self.families for blueprint in family.blueprints]
        self.world: Any = World(seed=seeds[0], blueprints=blueprints)
        if crew.copies > 1:
            self.world.queue = ScatteredQueue(self.world.clock, self.source, crew.copies)
        self.graphs: dict[str, Graph] = {b.content_hash: compile_graph(b) for b in blueprints}
        self.ledger = Ledger(self.world)
        self.executions: dict[str, Executions] = defaultdict(Executions)
        self.in_hand: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.world.behaviours = {"behave": self._node, "other": self._node}
        self._side: list[asyncio.Task[Any]] = []

    async def _node(self, process: Any, ctx: NodeContext[object, object]) -> object:
        self.in_hand[process.name] += 1
        try:
            await self._work()
            return self.executions[ctx.run_id].perform(ctx, process.name)
        finally:
            await self._work()
            self.in_hand[process.name] -= 1

    async def _work(self) -> None:
        """Take a few turns of the event loop, and sometimes a moment of time."""
        await slowly(self.source)
        if self.source.random() < 0.2:
            await self.world.clock.sleep(self.source.uniform(0.0, 1.0))

    async def sail(self) -> dict[str, Any]:
        """Run all to the end; the results."""
        world = self.world
        client = await world.process("client").open()
        uses = [None, None, ["behave"] if self.crew.lacking else None]
        self.alive = [await self._process(f"w{n}", uses[n]).start() for n in range(3)]
        self.people = People(client, self.ledger, world.clock, self.source, self.graphs.__getitem__, self.crew.meddling)
        meddlers = [asyncio.create_task(self.people.live()) for _ in range(_PEOPLE)]
        killing = asyncio.create_task(self._kill())
        lives = [asyncio.create_task(self._live(client, family)) for family in self.families]
        results: dict[str, Any] = {}
        try:
            for family, life in zip(self.families, lives, strict=True):
                results[family.blueprint.id] = await world.finish(life, within=7200)
            await world.finish(killing)
            await world.until(lambda: all(run.head.terminal for run in self.ledger.runs.values()), within=600)
        except AssertionError as error:
            error.add_note(self._unfinished())
            raise
        finally:
            self.people.done = True
            for task in (killing, *lives):
                task.cancel()
        for task in (*meddlers, *self._side):
            await world.finish(task)
        self.counts += self.people.counts
        return results

    def _unfinished(self) -> str:
        """The runs that go on, and what they wait for."""
        alive = {run_id: run for run_id, run in self.ledger.runs.items() if not run.head.terminal}
        return "\n".join(
            f"{run_id} {run.status}: {run.head}, {self.graphs[run.made.blueprint_hash].blueprint.to_dict()}"
            for run_id, run in alive.items()
        )

    def _process(self, name: str, uses: Any = None) -> Any:
        return self.world.process(name, uses=uses, worker={"concurrency": self.source.choice((1, 3, 10))})

    async def _live(self, client: Any, family: Family) -> Any:
        """One run, and its further epochs."""
        name, people = family.blueprint.id, self.people
        handle = await client.adapter.start_run(family.blueprint, family.run_input, run_id=name)
        result = await handle.result()
        for _ in range(self.crew.retries):
            if not self._is_tidy(name):
                break
            if self.source.random() < 0.4:
                again = await people.roll_back(name)
            else:
                again = await people.retry(name)
            if not again:
                break
            result = await handle.result()
        return result

    def _is_tidy(self, run_id: str) -> bool:
        """Without outcomes that came after a stop, and headers that went round too often: engine and oracle are known
        to differ in what becomes of these in a later epoch."""
        head = self.ledger.runs[run_id].head
        limited = any(visit < 0 for failure in head.failures for _, visit in failure.visits)
        return not (limited or head.late or FAILED_LATE in head.halted.values())

    async def _kill(self) -> None:
        for number in range(self.crew.kills):
            await self.world.clock.sleep(self.source.uniform(0.0, 2.0))
            for _ in range(self.source.randrange(60)):
                await asyncio.sleep(0)
            busy = [process for process in self.alive if self.in_hand[process.name]]
            victim = self.source.choice(busy if busy and self.source.random() < 0.8 else self.alive)
            self.alive.remove(victim)
            self.counts["killed at work" if self.in_hand[victim.name] else "killed"] += 1
            victim.kill()
            self.alive.append(self._process(f"w{3 + number}"))
            self._side.append(asyncio.create_task(self.alive[-1].start()))

    # ---- checking

    async def check(self, results: dict[str, Any]) -> None:
        """Every run and all that it made."""
        accounts: dict[str, Account] = {}

        def account_of(run_id: str) -> Account | None:
            written = self.ledger.runs.get(run_id)
            if written is not None and run_id not in accounts:
                graph = self.graphs[written.made.blueprint_hash]
                said = self.people.said[run_id]
                accounts[run_id] = Account(written, graph, self.executions[run_id], said, account_of)
            return accounts.get(run_id)

        for run_id in self.ledger.runs:
            account = account_of(run_id)
            assert account is not None
            try:
                account.tell()
                account.finish()
                await self._check_history(account)
                self._check_executions(account)
                self._check_children(account)
                if run_id in results:
                    assert_same_result(results[run_id], account.oracle)
                    found = without_errors(dict(results[run_id].context))
                    assert found == without_errors(account.oracle.context), "the context"
            except Exception as error:
                error.add_note(account.text() + "\n" + json.dumps(account.graph.blueprint.to_dict()))
                raise
            self.counts += account.told.seen

    async def _check_history(self, account: Account) -> None:
        """What was committed is what the history says; nothing in it is twice."""
        run = account.written
        stored = (await self.world.store.read_events(run.made.run_id, 0, 100_000)).items
        told = [*run.made.events, *(event for change in run.commits for event in change.events)]
        assert [event.seq for event in stored] == list(range(1, len(stored) + 1))
        assert [(e.type, e.node, e.visit) for e in stored] == [(e.type, e.node, e.visit) for e in told]
        own = [e for e in told if not str(e.data.get("error", "")).startswith("ConditionError") and e.visit > 0]
        kinds = ("node:completed", "node:failed", "node:undone", "item:completed", "item:failed")
        ended = Counter((e.type == "node:undone", e.node, e.data.get("by"), e.visit, e.data.get("item"))
                        for e in own if e.type in kinds and not self._undoes(account, e))  # fmt: skip
        assert not ended or max(ended.values()) == 1, f"one visit was committed twice: {ended.most_common(1)}"

    @staticmethod
    def _undoes(account: Account, event: Any) -> bool:
        """A compensation that failed."""
        return event.type == "node:failed" and event.data.get("by") in account.oracle.facts.undo.values()

    def _check_executions(self, account: Account) -> None:
        """Executed twice is only what a worker had in hand when it died."""
        dead = {process.name for process in self.world.processes if process.link.dead}
        for *key, processes in account.told.executions.twice(account.oracle):
            lived = [name for name in processes if name not in dead]
            assert self.crew.kills, f"{key} was executed by {processes}"
            assert len(lived) <= 1, f"{key} was executed by {processes}"
            self.counts["executed twice"] += 1

    def _check_children(self, account: Account) -> None:
        """A run ends after the runs that it waited for."""
        run = account.written
        for change in run.commits:
            for event in change.events:
                child = self.ledger.runs.get(str(event.data.get("child")))
                if event.type == "node:waiting" and child is not None:
                    last = child.numbers[-1] if child.numbers else child.number
                    assert last < run.numbers[-1], f"{run.made.run_id} ended before {event.data['child']}"


async def check_crew(seeds: Sequence[int], crew: Crew) -> tuple[Counter[str], Counter[str]]:
    """Run these workflows on one fleet; how they ended, and what happened."""
    voyage = _Voyage(seeds, crew)
    try:
        results = await voyage.sail()
        await voyage.check(results)
    finally:
        await voyage.world.close()
    return Counter(result.status for result in results.values()), voyage.counts
