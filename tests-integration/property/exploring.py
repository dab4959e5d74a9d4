"""All interleavings of one workflow, on the transition and on the oracle at the same time."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

from dataclasses import dataclass

from flowcraft.blueprint import Blueprint
from flowcraft.engine.head import Head

from ..oracle.oracle import Oracle
from ..oracle.views import Slot
from .driving import CheckedRun, assert_same_input, assert_same_view
from .seeds import both

__all__ = ["Explored", "explore"]


@dataclass
class Explored:
    """What was looked at."""

    workflows: int = 0
    states: int = 0
    outcomes: int = 0
    ends: int = 0


def explore(blueprint: Blueprint, told: Explored, *, stops: bool) -> None:
    """Every order of outcomes, each of them twice at once and once more later, and all stale ones after each.

    ``stops``: in every state the run is also cancelled, and every draining visit also abandoned.
    """
    told.workflows += 1
    made = both(blueprint, "input")
    if made is None:
        return
    graph, oracle, _ = made
    todo = [(CheckedRun(blueprint, "input", graph=graph), oracle, ())]
    seen: set[object] = set()
    while todo:
        run, oracle, path = todo.pop()
        try:
            _compare(run, oracle)
        except AssertionError as error:
            error.add_note(f"after {', '.join(path) or 'the start'}")
            raise
        key = (_standing(run.head), oracle.key)
        if key in seen:
            continue
        seen.add(key)
        told.states += 1
        slots = run.ready()
        told.ends += not slots
        for slot in slots:
            run2, oracle2 = run.clone(), oracle.clone()
            _settle(run2, oracle2, slot)
            told.outcomes += 1
            todo.append((run2, oracle2, (*path, str(slot))))
        if stops and slots:
            todo += _stopped(run, oracle, path)


def _compare(run: CheckedRun, oracle: Oracle) -> None:
    slots = run.ready()
    assert sorted(slots) == sorted(oracle.ready())
    for slot in slots:
        assert_same_input(run, oracle, slot)
    if not slots:
        assert_same_view(run.view(), oracle.result())


def _settle(run: CheckedRun, oracle: Oracle, slot: Slot) -> None:
    result = oracle.behaviour(slot.runs, slot.visit, slot.attempt, run.input_of(slot))
    event = run.event(slot, result)
    visit = run.visit(slot)
    assert run.fold([event, event]) == [True, False]
    assert run.fold([event]) == [False]
    now = {run.visit(other) for other in run.ready()}
    assert visit not in now
    run.refuse([old for old in run.given if old not in now])
    oracle.settle(slot, result)


def _stopped(
    run: CheckedRun, oracle: Oracle, path: tuple[str, ...]
) -> list[tuple[CheckedRun, Oracle, tuple[str, ...]]]:
    found: list[tuple[CheckedRun, Oracle, tuple[str, ...]]] = []
    if oracle.ending != "cancelled":
        run2, oracle2 = run.clone(), oracle.clone()
        assert run2.cancel() == [True]
        assert run2.cancel() == [False]
        oracle2.cancel()
        found.append((run2, oracle2, (*path, "cancel")))
    for slot in run.draining():
        run2, oracle2 = run.clone(), oracle.clone()
        run2.drop(slot)
        oracle2.drop(slot)
        found.append((run2, oracle2, (*path, f"drop {slot}")))
    return found


def _standing(head: Head) -> str:
    """All of a head that can make a difference later."""
    active = [(n, a.visit, a.attempt, a.runs, a.before) for n, a in sorted(head.active.items())]
    tables = (
        head.visits, head.outputs, head.last, head.wins, head.mark_visits, head.rounds, head.fallbacks, head.ordinary,
    )  # fmt: skip
    failures = sorted((f.node, f.visits) for f in head.failures)
    return repr((
        bytes(head.states), bytes(head.marks), head.phase, active, [sorted(t.items()) for t in tables],
        sorted(head.fired), failures,
    ))  # fmt: skip
