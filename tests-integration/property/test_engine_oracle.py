"""Random workflows: the pure transition and the oracle in lock step, whatever happens to the messages."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from flowcraft.blueprint import Blueprint, Node, Retry

from ..oracle.generator import generate
from .driving import Chaos, CheckedRun, in_lock_step
from .seeds import both, replayable, seeds


def _later(node: Node) -> Node:
    """The same node, but its next attempt waits for a timer."""
    if node.retry.attempts == 1:
        return node
    return replace(node, retry=Retry(node.retry.attempts, delay=60.0, jitter=0.0))


def _check(seed: int) -> str:
    source = random.Random(seed)
    workflow = generate(source)
    blueprint: Blueprint = workflow.blueprint
    if source.random() < 0.5:
        blueprint = replace(blueprint, nodes=tuple(map(_later, blueprint.nodes)))
    made = both(blueprint, workflow.run_input)
    if made is None:
        return "refused"
    graph, oracle, _ = made
    run = CheckedRun(blueprint, workflow.run_input, graph=graph)
    plain = Chaos(fold=0.0, stale=0.0, park=0.0, drop=0.0, resend=0.0)
    chaos = source.choice((plain, Chaos(), Chaos(fold=0.6), Chaos(cancel=0.1)))
    return in_lock_step(run, oracle, source, chaos).status


@pytest.mark.timeout(3600)
def test_random_workflows_in_lock_step() -> None:
    ends: Counter[str] = Counter()
    for seed in seeds(2500):
        with replayable(__file__, seed):
            ends[_check(seed)] += 1
    print(f"in lock step: {sum(ends.values())} workflows, {dict(ends)}")
