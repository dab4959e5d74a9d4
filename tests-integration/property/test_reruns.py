"""Random workflows that are run again from each of their nodes, wherever they stand: under way, or at their end.

What a rerun begins with is what a retry of the same run begins with, had that been cancelled. Then it goes to its end:
what was taken over suffices for it, is not executed again, and the run that it came from does not hear of it.
"""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from flowcraft.blueprint import Blueprint
from flowcraft.codec import JsonCodec
from flowcraft.engine.commands import failed_nodes
from flowcraft.engine.draft import MISSING
from flowcraft.engine.events import Retry
from flowcraft.engine.head import BEGUN, SETTLED, Head
from flowcraft.engine.headbytes import decode_head
from flowcraft.engine.reset import affected
from flowcraft.engine.takeover import abandon, take_over, taken, why_not_from

from ..oracle.behaviour import Behaviour, without_errors
from ..oracle.generator import generate
from ..oracle.views import Slot
from .driving import CheckedRun, _Everything  # the same test of another kind
from .seeds import both, replayable, seeds

_CODEC = JsonCodec()
#: What a rerun has of its own, and what a cancelled and retried run has of its past.
_ITS_OWN = {"active", "tokens", "seq", "started_at", "wake_at", "origin", "done", "visits", "outputs"}


class Rerun(CheckedRun):
    """The rerun of another run, with all of its values or with those that are taken over."""

    def __init__(self, origin: CheckedRun, node: int, given: object = MISSING, *, whole: bool = False) -> None:
        before, values = origin.stored.head, dict(origin.stored.values)
        self.__dict__.update(origin.__dict__)
        self.given, self.ended, self.seq, self.told = [], Counter(), 0, set()
        self.stored = replace(origin.stored, head=b"", values=values)
        self.executed: list[tuple[Slot, object]] = []
        draft = self._draft(decode_head(before), _Everything())
        abandon(draft)
        assert why_not_from(self.graph, draft.head, node) == ""
        take_over(draft, node, "origin", MISSING if given is MISSING else _CODEC.encode(given), {})
        if not whole:
            self.stored.values = taken(self.graph, draft.head, values)
        effects = self._commit(draft)
        assert (effects.facts[0][0], effects.revoked, effects.children) == ("run:started", [], []), "of the origin"
        assert origin.stored.head == before

    def to_the_end(self, behaviour: Behaviour, source: random.Random) -> None:
        _drive(self, behaviour, source, 5_000, self.executed)
        assert self.head.terminal


def _drive(
    run: CheckedRun, behaviour: Behaviour, source: random.Random, steps: int, told: list[tuple[Slot, object]]
) -> None:
    """Go on for so many steps, or to the end."""
    for _ in range(steps):
        ready = run.ready()
        if not ready and not run.resting():
            return
        if not ready or (run.resting() and source.random() < 0.3):
            run.wake(can=True)
            continue
        slot = source.choice(ready)
        given = run.input_of(slot)
        told.append((slot, without_errors(given)))
        run.fold([run.event(slot, behaviour(slot.runs, slot.visit, slot.attempt, given))])


def _stopped(origin: CheckedRun) -> Head:
    """The head of the run, had it been cancelled, and had nobody heard of it again."""
    twin = origin.clone()
    if not twin.head.terminal:
        twin.cancel()
        for slot in twin.draining():
            twin.drop(slot)
    assert twin.head.terminal
    return twin.head


def _retried(origin: CheckedRun, node: int, elsewhere: list[int]) -> Head | None:
    """What a retry of the cancelled run begins with; None: it has completed, so there is no such retry."""
    twin = origin.clone()
    if not twin.head.terminal:
        twin.cancel()
        for slot in twin.draining():
            twin.drop(slot)
    if twin.head.phase == "completed":
        return None
    again = Retry((node, *elsewhere))
    assert twin.fold([again, again]) == [True, False]
    return twin.head


def _check(origin: CheckedRun, behaviour: Behaviour, source: random.Random, counts: Counter[str]) -> None:
    graph, stopped = origin.graph, _stopped(origin)
    before = (origin.stored.head, dict(origin.stored.values))
    for node in range(graph.node_count):
        if why_not_from(graph, stopped, node):
            counts["refused"] += 1
            continue
        elsewhere = [n for n in failed_nodes(graph, stopped) if node not in affected(graph, stopped, [n])]
        rerun = Rerun(origin, node)
        retried = _retried(origin, node, elsewhere)
        if retried is not None:
            counts["compared with a retry"] += 1
            for name in set(Head.__dataclass_fields__) - _ITS_OWN:
                assert getattr(rerun.head, name) == getattr(retried, name), f"{name}, from {graph.ids[node]}"
            assert rerun.head.active.keys() == retried.active.keys()
        again = affected(graph, stopped, [node, *elsewhere, *(n for n, how in stopped.halted.items() if how == BEGUN)])
        seed = source.random()
        rerun.to_the_end(behaviour, random.Random(seed))
        with_all = Rerun(origin, node, whole=True)
        with_all.to_the_end(behaviour, random.Random(seed))
        assert with_all.executed == rerun.executed, "something was not taken over"
        assert with_all.view() == rerun.view()
        settled = {n for n, state in enumerate(stopped.states) if state in SETTLED}
        kept = settled - again - stopped.halted.keys()
        for slot, _ in rerun.executed:
            assert graph.index[slot.node] not in kept or graph.scope_of[graph.index[slot.node]], f"{slot} ran again"
        _check_given(origin, node, behaviour, random.Random(seed))
        counts["ended"] += 1
    assert (origin.stored.head, origin.stored.values) == before, "the origin has changed"


def _check_given(origin: CheckedRun, node: int, behaviour: Behaviour, source: random.Random) -> None:
    """The next visit of the node gets what is given, and no other visit does."""
    run = Rerun(origin, node, {"given": "input"})
    begun = run.head.given[node]
    run.to_the_end(behaviour, source)
    name = run.graph.ids[node]
    mine = [(slot, given) for slot, given in run.executed if slot.node == name and slot.runs == name]
    # It may wait for what was under way before it, and never be; or nobody needs it any more.
    first = begun or (mine[0][0].visit if mine else 0)
    assert all((given == {"given": "input"}) == (slot.visit == first) for slot, given in mine)


def _run(blueprint: Blueprint, run_input: object, source: random.Random, counts: Counter[str]) -> None:
    made = both(blueprint, run_input)
    if made is None:
        return
    graph, _, behaviour = made
    run = CheckedRun(blueprint, run_input, graph=graph)
    for _ in range(3):
        _drive(run, behaviour, source, source.randint(1, 6), [])
        if run.head.terminal:
            break
        if source.random() < 0.3:
            counts["under way"] += 1
            _check(run, behaviour, source, counts)
    if source.random() < 0.1 and not run.head.terminal:
        run.cancel()
    _drive(run, behaviour, source, 5_000, [])
    counts[run.head.phase] += 1
    _check(run, behaviour, source, counts)


@pytest.mark.timeout(3600)
def test_random_workflows_are_run_again_from_every_node() -> None:
    counts: Counter[str] = Counter()
    for seed in seeds(150):
        source = random.Random(seed)
        workflow = generate(source)
        with replayable(__file__, seed):
            _run(workflow.blueprint, workflow.run_input, source, counts)
    print(f"reruns: {dict(counts)}")
    assert min(counts[what] for what in ("compared with a retry", "ended", "refused", "under way")) > 0
