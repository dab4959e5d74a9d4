"""People who meddle with runs on a fleet: they send signals, pause, patch, mark, cancel, roll back and try again.

Each answer is noted with the commits of the run between which it was given, so that it can be told whether it was true.
"""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowcraft.engine.head import COMPLETED, FAILED, WAITING
from flowcraft.errors import CommandRefused, MailboxFull, SignalConflict, TooLate
from flowcraft.graph import Graph

from ..oracle.facts import Facts
from ..oracle.oracle import Oracle
from .ledger import Ledger
from .retelling import Sent

__all__ = ["Asked", "Meddling", "People", "Said"]

_TERMINAL = ("completed", "failed", "cancelled")
_BEGUN = ("active", "completed", "failed", "cancelled")


@dataclass(frozen=True)
class Meddling:
    """How often, of 1, somebody does something else than sending a signal, if there is no wait."""

    cancel: float = 0.02
    pause: float = 0.15
    patch: float = 0.15
    mark: float = 0.1
    rollback: float = 0.02
    again: float = 0.25  # the same signal once more


@dataclass(frozen=True)
class Asked:
    """Something that was answered by changing nothing: ``true`` must hold at some time between the two commits."""

    what: str
    first: int
    last: int
    true: Callable[[Oracle], bool]


@dataclass
class Said:
    """What one run was told. ``commands`` that were accepted are in the order in which they were given."""

    signals: dict[str, tuple[str, int | None, Sent]] = field(default_factory=dict[str, tuple[str, int | None, Sent]])
    taken: set[str] = field(default_factory=set[str])  # accepted or kept
    commands: dict[str, list[object]] = field(default_factory=lambda: defaultdict(list))
    changes: Counter[str] = field(default_factory=Counter[str])
    asked: list[Asked] = field(default_factory=list[Asked])
    busy: bool = False  # one command at a time, so that their order is known


class People:
    """Some people, who look at the ledger to see what is going on."""

    def __init__(
        self, client: Any, ledger: Ledger, clock: Any, source: random.Random, graphs: Callable[[str], Graph],
        meddling: Meddling,
    ) -> None:  # fmt: skip
        self.said: dict[str, Said] = defaultdict(Said)
        self.counts: Counter[str] = Counter()
        self.done = False
        self._client = client
        self._ledger = ledger
        self._clock = clock
        self._source = source
        self._graphs = graphs
        self._facts: dict[str, Facts] = {}
        self._meddling = meddling
        self._number = 0

    async def live(self) -> None:
        """One of them, until all is done."""
        while not self.done:
            await self._clock.sleep(self._source.uniform(0.05, 1.0))
            alive = [run_id for run_id, run in self._ledger.runs.items() if run.status not in _TERMINAL]
            if not alive:
                continue
            stuck = [run_id for run_id in alive if self._ledger.runs[run_id].status in ("awaiting", "paused")]
            await self._meddle(self._source.choice(stuck if stuck and self._source.random() < 0.6 else alive))

    def facts(self, run_id: str) -> Facts:
        """What is known of the run's blueprint."""
        found = self._facts.get(run_id)
        if found is None:
            found = self._facts[run_id] = Facts(self.graph(run_id).blueprint)
        return found

    def graph(self, run_id: str) -> Graph:
        """The run's blueprint, compiled."""
        return self._graphs(self._ledger.runs[run_id].made.blueprint_hash)

    async def _meddle(self, run_id: str) -> None:
        source, how, said = self._source, self._meddling, self.said[run_id]
        head = self._ledger.runs[run_id].head
        waits = [n for n, kind in self.facts(run_id).kind.items() if kind == "wait"]
        if head.paused and source.random() < 0.5:
            await self._command(run_id, "resume")
        elif waits and source.random() < 0.7:
            await self._signal(run_id, waits)
        elif said.busy:
            return
        elif source.random() < how.cancel:
            await self._cancel(run_id)
        elif source.random() < how.pause:
            await self._command(run_id, source.choice(("pause", "pause", "resume")))
        elif source.random() < how.patch:
            await self._patch(run_id)
        elif source.random() < how.mark:
            await self._mark(run_id)
        elif source.random() < how.rollback and not run_id.startswith("sub-"):
            await self.roll_back(run_id)

    # ---- signals

    async def _signal(self, run_id: str, waits: Sequence[str]) -> None:
        source, said, graph = self._source, self.said[run_id], self.graph(run_id)
        head = self._ledger.runs[run_id].head
        open_ones = [n for n in waits if head.states[graph.index[n]] == WAITING]
        node = source.choice(open_ones if open_ones and source.random() < 0.7 else waits)
        actions = [e.action for e in self.facts(run_id).edges.values() if e.source == node and e.action]
        begun = head.visits.get(graph.index[node], 0)
        visit: int | None = source.choice((None, None, None, None, begun, begun + 1)) or None
        self._number += 1
        sent = Sent(f"s{self._number}", {"n": self._number}, source.choice([None, *actions]))
        if said.signals and source.random() < self._meddling.again:
            node, visit, sent = said.signals[source.choice(list(said.signals))]
        said.signals[sent.id] = (node, visit, sent)
        first = self._now(run_id)
        signal = self._client.adapter.run(run_id).signal
        try:
            answer = await signal(node, sent.payload, action=sent.action, signal_id=sent.id, visit=visit)
        except (TooLate, SignalConflict, MailboxFull) as error:
            self.counts[type(error).__name__] += 1
            self._asked(
                run_id, first, f"{sent} for {node}#{visit}: {error}", lambda oracle: _refuses(oracle, node, visit, sent)
            )
            return
        self.counts[f"signal {answer}"] += 1
        if answer != "repeated":
            said.taken.add(sent.id)
        else:
            self._asked(run_id, first, f"{sent} repeated", lambda oracle: sent.id in oracle.answers)

    # ---- commands

    def _now(self, run_id: str) -> int:
        return len(self._ledger.runs[run_id].commits)

    def _asked(self, run_id: str, first: int, what: str, true: Callable[[Oracle], bool]) -> None:
        self.said[run_id].asked.append(Asked(what, first, self._now(run_id), true))

    async def _told(self, run_id: str, what: str, doing: Awaitable[Any], refuses: Callable[[Oracle], bool]) -> bool:
        """Whether a command changed something; if not, there must have been a reason."""
        said, first = self.said[run_id], self._now(run_id)
        said.busy = True
        try:
            answer = await doing
        except CommandRefused as error:
            answer = False
            what = f"{what}: {error}"
            self.counts["refused"] += 1
        finally:
            said.busy = False
        if answer is False:
            self._asked(run_id, first, what, refuses)
            return False
        self.counts[what.partition(" ")[0]] += 1
        return True

    async def _command(self, run_id: str, kind: str) -> None:
        handle, said = self._client.adapter.run(run_id), self.said[run_id]
        if said.busy:
            return
        if kind == "pause":
            told = await self._told(run_id, kind, handle.pause(), lambda oracle: not oracle.pause())
        else:
            told = await self._told(run_id, kind, handle.resume(), lambda oracle: not oracle.unpause())
        said.changes["run:paused" if kind == "pause" else "run:resumed"] += told

    async def _cancel(self, run_id: str) -> None:
        handle = self._client.adapter.run(run_id)

        def stopped(oracle: Oracle) -> bool:
            return not oracle.active or oracle.ending is not None

        self.said[run_id].changes["run:cancelling"] += await self._told(
            run_id, "cancel", handle.cancel("enough"), stopped
        )

    async def _patch(self, run_id: str) -> None:
        source, handle = self._source, self._client.adapter.run(run_id)
        writes = {"K": {"n": source.randrange(600)}} if source.random() < 0.8 else {}
        deleted = () if writes else ("K",)
        if await self._told(run_id, "patch", handle.patch_context(writes, deleted), lambda oracle: not oracle.active):
            self.said[run_id].commands["patch"].append((writes, deleted))

    async def _mark(self, run_id: str) -> None:
        """Of the nodes for which it is agreed upon what marking them means."""
        source, facts = self._source, self.facts(run_id)
        headers = {scope.header for scope in facts.scopes}
        nodes = [
            node
            for node in facts.nodes
            if node not in headers and not facts.around[node] and not facts.callers[node]
            and node not in facts.undo and node not in facts.undo.values()
        ]  # fmt: skip
        if not nodes:
            return
        node = source.choice(nodes)
        actions = [e.action for e in facts.edges.values() if e.source == node and e.action]
        action = source.choice([None, *actions])
        output = {"n": source.randrange(600), "from": "mark"}
        handle = self._client.adapter.run(run_id)

        def refuses(oracle: Oracle) -> bool:
            return not oracle.mark_completed(node, output, action)

        if await self._told(run_id, f"mark {node}", handle.mark_completed(node, output, action), refuses):
            self.said[run_id].commands["mark"].append(output)

    async def retry(self, run_id: str) -> bool:
        """Try a run again that has ended."""
        handle = self._client.adapter.run(run_id)
        told = await self._told(run_id, "retry", handle.retry(), lambda oracle: not oracle.retry())
        if told:
            self.said[run_id].commands["retry"].append(None)
        return told

    async def roll_back(self, run_id: str) -> bool:
        """Roll a run back, to a node that has run or altogether."""
        source, facts, graph = self._source, self.facts(run_id), self.graph(run_id)
        states = self._ledger.runs[run_id].head.states
        ran = [n for n in facts.nodes if states[graph.index[n]] in (COMPLETED, FAILED) and n not in facts.only_called]
        node = source.choice(ran) if ran and source.random() < 0.6 else None
        handle = self._client.adapter.run(run_id)

        def refuses(oracle: Oracle) -> bool:
            ending = bool(oracle.active) and oracle.ending is not None
            return oracle.rolling is not None or ending or (node is not None and oracle.state[node] not in _BEGUN)

        told = await self._told(run_id, f"rollback {node}", handle.rollback(node), refuses)
        if told:
            self.said[run_id].commands["rollback"].append(node)
        return told


def _refuses(oracle: Oracle, node: str, visit: int | None, sent: Sent) -> bool:
    answer = oracle.signal(node, sent.payload, sent.action, signal_id=sent.id, visit=visit)
    return answer in ("late", "conflict", "full")
