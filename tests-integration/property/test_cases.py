"""Every example worked out by hand, on the real transition and in lock step with the oracle."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

from typing import Any

import pytest

from flowcraft.blueprint import Blueprint
from flowcraft.errors import DefinitionError
from flowcraft.graph import compile_graph

from ..oracle import cases_batches, cases_commands, cases_epochs, cases_loops, cases_plain, cases_scopes, cases_waits
from ..oracle.behaviour import behaviour_of, without_errors
from ..oracle.cases import Case
from ..oracle.oracle import Oracle
from ..oracle.script import play
from . import regressions
from .disagreements import DISAGREEMENTS
from .pairing import Pair, ToldRun

CASES = [*cases_plain.CASES, *cases_scopes.CASES, *regressions.CASES, *cases_loops.CASES, *cases_waits.CASES]
CASES += [*cases_batches.CASES, *cases_commands.CASES, *cases_epochs.CASES]


def _marked(example: Case) -> Any:
    known = DISAGREEMENTS.get(example.name)
    marks = [] if known is None else [pytest.mark.xfail(reason=known, strict=True)]
    return pytest.param(example, id=example.name, marks=marks)


def test_disagreements_are_cases() -> None:
    assert DISAGREEMENTS.keys() <= {example.name for example in CASES}


@pytest.mark.parametrize("example", [_marked(example) for example in CASES])
def test_examples(example: Case) -> None:
    if example.refused:
        with pytest.raises(DefinitionError):
            compile_graph(Blueprint.from_dict(example.blueprint))
        return
    blueprint = Blueprint.from_dict(example.blueprint)
    run = ToldRun(blueprint, example.run_input)
    pair = Pair(run, Oracle(blueprint, behaviour_of(blueprint), example.run_input))
    play(pair, example.order)
    pair.compare_ends()
    view = run.view()
    assert view.status == example.status
    assert {n: view.nodes[n].reason or view.nodes[n].state for n in example.states} == example.states
    assert {n: view.nodes[n].visit for n in example.visits} == example.visits
    assert {n: without_errors(view.nodes[n].output if n else view.output) for n in example.outputs} == example.outputs
    assert tuple(failure.node for failure in view.failures) == example.failures
