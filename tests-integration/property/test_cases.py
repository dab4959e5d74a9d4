"""Every example worked out by hand, on the real transition and in lock step with the oracle."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

import pytest

from flowcraft.blueprint import Blueprint
from flowcraft.errors import DefinitionError
from flowcraft.graph import compile_graph

from ..oracle import cases_plain, cases_scopes
from ..oracle.behaviour import behaviour_of, without_errors
from ..oracle.cases import Case
from ..oracle.oracle import Oracle
from ..oracle.views import Slot
from . import regressions
from .driving import CheckedRun, assert_same_input, assert_same_view

CASES = [*cases_plain.CASES, *cases_scopes.CASES, *regressions.CASES]


def _settle(run: CheckedRun, oracle: Oracle, slot: Slot) -> None:
    assert_same_input(run, oracle, slot)
    result = oracle.behaviour(slot.runs, slot.visit, slot.attempt, run.input_of(slot))
    event = run.event(slot, result)
    assert run.fold([event, event]) == [True, False]
    assert run.fold([event]) == [False]
    oracle.settle(slot, result)


def _act(run: CheckedRun, oracle: Oracle, step: str) -> None:
    assert sorted(run.ready()) == sorted(oracle.ready())
    if step == "cancel":
        assert run.cancel() == [True]
        oracle.cancel()
    elif step == "rest":
        for slot in run.ready():
            run.park(slot)
            oracle.rest(slot)
    elif step.startswith("-"):
        assert step[1:] not in [slot.node for slot in run.ready()], f"{step[1:]} is ready"
    elif step.startswith("~"):
        slot = next(slot for slot in run.draining() if slot.node == step[1:])
        run.drop(slot)
        oracle.drop(slot)
    else:
        runs, _, node = step.partition("@")
        found = [slot for slot in run.ready() if (slot.node, slot.runs) == (node or runs, runs)]
        assert found, f"{step} is not ready, but {run.ready()}"
        _settle(run, oracle, found[0])


@pytest.mark.parametrize("example", CASES, ids=lambda example: example.name)
def test_examples(example: Case) -> None:
    if example.refused:
        with pytest.raises(DefinitionError):
            compile_graph(Blueprint.from_dict(example.blueprint))
        return
    blueprint = Blueprint.from_dict(example.blueprint)
    run = CheckedRun(blueprint, example.run_input)
    oracle = Oracle(blueprint, behaviour_of(blueprint), example.run_input)
    for step in example.order:
        _act(run, oracle, step)
    while slots := run.ready():
        _settle(run, oracle, min(slots, key=lambda slot: run.graph.index[slot.node]))
    view = run.view()
    assert_same_view(view, oracle.result())
    assert view.status == example.status
    assert {n: view.nodes[n].reason or view.nodes[n].state for n in example.states} == example.states
    assert {n: view.nodes[n].visit for n in example.visits} == example.visits
    assert {n: without_errors(view.nodes[n].output if n else view.output) for n in example.outputs} == example.outputs
    assert tuple(failure.node for failure in view.failures) == example.failures
