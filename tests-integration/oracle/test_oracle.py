"""The oracle against examples worked out by hand, and against itself on random workflows."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, given, settings

from flowcraft.blueprint import Blueprint
from flowcraft.errors import ConditionError, DefinitionError
from flowcraft.expressions import parse

from . import cases_batches, cases_commands, cases_epochs, cases_loops, cases_plain, cases_scopes, cases_waits
from .behaviour import behaviour_of, without_errors
from .cases import Case
from .explore import TooManyStates, order_observable, permitted, replay, run_randomly
from .generator import CONDITIONS, TRANSFORMS, Workflow, generate, workflows
from .oracle import Oracle
from .script import OraclePlayer, play
from .texts import CannotEvaluate, holds, transformed
from .views import NotReady, RunView, Slot

#: How many random workflows; the nightly run has more.
GRAPHS = int(os.environ.get("FLOWCRAFT_ORACLE_GRAPHS", "2000"))
CASES = [*cases_plain.CASES, *cases_scopes.CASES, *cases_loops.CASES, *cases_waits.CASES, *cases_batches.CASES]
CASES += [*cases_commands.CASES, *cases_epochs.CASES]


def _start(blueprint: Blueprint, run_input: object, scan: random.Random | None = None) -> Oracle:
    return Oracle(blueprint, behaviour_of(blueprint), run_input, scan)


def _play(example: Case) -> tuple[Oracle, RunView]:
    oracle = _start(Blueprint.from_dict(example.blueprint), example.run_input)
    play(OraclePlayer(oracle), example.order)
    return oracle, oracle.result()


@pytest.mark.parametrize("example", CASES, ids=lambda example: example.name)
def test_examples(example: Case) -> None:
    if example.refused:
        with pytest.raises(DefinitionError):
            _play(example)
        return
    oracle, view = _play(example)
    assert view.status == example.status
    assert {n: view.nodes[n].reason or view.nodes[n].state for n in example.states} == example.states
    assert {n: view.nodes[n].visit for n in example.visits} == example.visits
    found = {n: without_errors(view.nodes[n].output if n else view.output) for n in example.outputs}
    assert found == example.outputs
    assert tuple(failure.node for failure in view.failures) == example.failures
    assert {name: oracle.context.get(name) for name in example.context} == example.context


@pytest.mark.parametrize("output", [{"n": 4}, {"n": 5}, {}, None, 7])
@pytest.mark.parametrize("text", [*CONDITIONS, *TRANSFORMS, "1 / 0 == 1", "input.n <= 5"])
def test_the_few_expressions_mean_what_the_language_says(text: str, output: object) -> None:
    def value() -> object:
        return transformed(text, output, {}) if text in TRANSFORMS else holds(text, output, "x", {})

    names = {"input": output, "result": {"output": output, "action": "x"}}
    try:
        expected = parse(text).evaluate(lambda reference: names[reference.kind])
    except ConditionError:
        with pytest.raises(CannotEvaluate):
            value()
    else:
        assert value() == expected


def test_names_are_unique() -> None:
    assert len({example.name for example in CASES}) == len(CASES)


def _check(workflow: Workflow, source: random.Random) -> None:
    """Any order ends, leaves nothing pending, replays to the same, and shows only where it may."""
    try:
        observable = order_observable(workflow.blueprint)
    except DefinitionError:
        return
    keys: set[str] = set()
    for _ in range(3):
        oracle = _start(workflow.blueprint, workflow.run_input)
        order = run_randomly(oracle, source)
        view = oracle.result()
        assert view.status in ("completed", "failed")
        assert not any(node.state in ("pending", "active", "none") for node in view.nodes.values())
        shuffled = _start(workflow.blueprint, workflow.run_input, source)
        for slot in order:
            shuffled.settle(slot, shuffled.outcome_of(slot))
        assert shuffled.result().key == view.key, "the order in which rules are tried shows"
        keys.add(view.key)
    assert observable or len(keys) == 1, "the order of outcomes shows"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("block", range(4))
def test_random_workflows(block: int) -> None:
    for seed in range(GRAPHS // 4):
        source = random.Random(4 * seed + block)
        try:
            _check(generate(source), source)
        except Exception as error:
            error.add_note(f"seed {4 * seed + block}")
            raise


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(workflows())
def test_random_workflows_made_small(workflow: Workflow) -> None:
    _check(workflow, random.Random(0))


def test_cancelled_runs_end() -> None:
    for seed in range(300):
        source = random.Random(seed)
        workflow = generate(source, refused=0)
        oracle = _start(workflow.blueprint, workflow.run_input)
        for _ in range(source.randrange(8)):
            if slots := oracle.ready():
                slot = source.choice(slots)
                oracle.settle(slot, oracle.outcome_of(slot))
        running = bool(oracle.active)
        oracle.cancel()
        waiting = len(oracle.ready())
        assert len(run_randomly(oracle, source)) == waiting, "a cancelled run starts nothing"
        assert not running or oracle.status() in ("cancelled", "failed")


@pytest.mark.timeout(600)
def test_permitted_results_hold_every_random_one() -> None:
    checked = several = 0
    for seed in range(200):
        workflow = generate(random.Random(seed), refused=0)
        behaviour = behaviour_of(workflow.blueprint)
        try:
            results = permitted(workflow.blueprint, behaviour, workflow.run_input, 1_000)
        except TooManyStates:
            continue
        checked += 1
        several += len(results) > 1
        assert len(results) == 1 or order_observable(workflow.blueprint)
        for order in range(3):
            oracle = _start(workflow.blueprint, workflow.run_input)
            run_randomly(oracle, random.Random(order))
            assert oracle.result().key in results
    assert checked > 100
    assert several > 5


def test_replay_refuses_what_must_not_run() -> None:
    blueprint = Blueprint.from_dict(
        {
            "id": "r",
            "nodes": [{"id": "a", "uses": "behave"}, {"id": "b", "uses": "behave"}],
            "edges": [{"source": "a", "target": "b"}],
        }
    )
    a, b = Slot("a", "a", 1, 1), Slot("b", "b", 1, 1)
    behaviour = behaviour_of(blueprint)
    assert replay(blueprint, behaviour, None, [a, b]).status == "completed"
    for wrong in ([b], [a, a], [a, b, b], [a], [Slot("a", "a", 1, 2)]):
        with pytest.raises(NotReady):
            replay(blueprint, behaviour, None, wrong)
