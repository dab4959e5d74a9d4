"""Random workflows of all constructs, with signals, timers and commands: the transition and the oracle in lock step."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

import random
from collections import Counter

import pytest

from flowcraft.graph import compile_graph

from ..oracle.behaviour import behaviour_of
from ..oracle.constructs import generate_constructs
from ..oracle.oracle import Oracle
from .mixing import Mix, mixed
from .pairing import Pair, ToldRun
from .seeds import replayable, seeds

PLAIN = Mix(park=0.0, drop=0.0, patch=0.0, stale=0.0)
MIXES = (PLAIN, Mix(), Mix(cancel=0.05), Mix(pause=0.1), Mix(mark=0.05), Mix(cancel=0.02, pause=0.05, mark=0.02))
EPOCHS = (Mix(retries=2), Mix(retries=2, cancel=0.05), Mix(retries=2, rollback=0.3))
EPOCHS += (Mix(retries=2, cancel=0.05, rollback=0.3),)


def _check(seed: int, mixes: tuple[Mix, ...]) -> str:
    source = random.Random(seed)
    workflow = generate_constructs(source)
    blueprint = workflow.blueprint
    run = ToldRun(blueprint, workflow.run_input, graph=compile_graph(blueprint))
    pair = Pair(run, Oracle(blueprint, behaviour_of(blueprint), workflow.run_input))
    tale: list[str] = []
    try:
        mixed(pair, source, source.choice(mixes), tale)
    except Exception as error:
        error.add_note(f"after {' '.join(tale)}")
        raise
    return pair.oracle.status()


@pytest.mark.timeout(3600)
def test_random_workflows_of_all_constructs() -> None:
    ends: Counter[str] = Counter()
    for seed in seeds(400):
        with replayable(__file__, seed):
            ends[_check(seed, MIXES)] += 1
    print(f"all constructs: {sum(ends.values())} workflows, {dict(ends)}")


@pytest.mark.timeout(3600)
def test_random_workflows_in_several_epochs() -> None:
    ends: Counter[str] = Counter()
    for seed in seeds(200):
        with replayable(__file__, seed):
            ends[_check(seed, EPOCHS)] += 1
    print(f"several epochs: {sum(ends.values())} workflows, {dict(ends)}")
