"""Whole runs of the oracle: one observed order, a random order, or every order there is."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping

from flowcraft.blueprint import Blueprint, Edge

from .behaviour import Behaviour
from .facts import Facts
from .oracle import Oracle
from .views import NotReady, RunView, Slot

__all__ = ["TooManyStates", "order_observable", "permitted", "replay", "run_randomly"]


class TooManyStates(Exception):
    """More interleavings than the caller wants to look at."""


def replay(blueprint: Blueprint, behaviour: Behaviour, run_input: object, order: Iterable[Slot]) -> RunView:
    """The result of a run in which the attempts ended in this order.

    Raises:
        NotReady: one of them must not have been executing at that point, or some are missing at the end.
    """
    oracle = Oracle(blueprint, behaviour, run_input)
    for slot in order:
        oracle.settle(slot, oracle.outcome_of(slot))
    if oracle.active:
        raise NotReady(f"the order ends too early, {', '.join(map(str, oracle.ready()))} must run")
    return oracle.result()


def run_randomly(oracle: Oracle, source: random.Random, max_steps: int = 5_000) -> list[Slot]:
    """Run to the end in a random order, which is returned."""
    order: list[Slot] = []
    while slots := oracle.ready():
        slot = source.choice(slots)
        oracle.settle(slot, oracle.outcome_of(slot))
        order.append(slot)
        if len(order) > max_steps:
            raise AssertionError(f"still running after {max_steps} attempts")
    return order


def permitted(
    blueprint: Blueprint, behaviour: Behaviour, run_input: object, max_states: int = 20_000
) -> dict[str, RunView]:
    """Every result that some order of outcomes leads to, by its key.

    Raises:
        TooManyStates: there are more than ``max_states`` distinct states.
    """
    results: dict[str, RunView] = {}
    todo = [Oracle(blueprint, behaviour, run_input)]
    seen = {todo[0].key}
    while todo:
        oracle = todo.pop()
        slots = oracle.ready()
        if not slots:
            view = oracle.result()
            results[view.key] = view
        for slot in slots:
            after = oracle.clone()
            after.settle(slot, after.outcome_of(slot))
            if (key := after.key) not in seen:
                seen.add(key)
                todo.append(after)
                if len(seen) > max_states:
                    raise TooManyStates(f"more than {max_states} states")
    return results


def order_observable(blueprint: Blueprint) -> bool:
    """Whether the order of outcomes can show in the result. False is a promise, True only a possibility.

    It can where a join fires before all of its predecessors are decided, where one failure ends the others, where a
    fallback serves several visits and its output tells them apart, and where an input, a condition or a transform
    names a node that may still run.
    """
    facts = Facts(blueprint)
    if facts.fail_fast:
        return True
    if any(_reads_others(facts, edge) for edge in facts.edges.values()):
        return True
    for node in facts.nodes.values():
        sources = {facts.edges[i].source for i in facts.into[node.id]}
        early = any(facts.leaves[i] for i in facts.into[node.id])  # LIVE while its source's scope goes on
        if node.join.at_least is not None and (early or node.join.at_least < len(sources)):
            return True
        if _served(facts, node.id) > 1 and node.params.get("of") != "nothing":
            return True
        if node.inputs is not None and not _names_settled(facts, node.id, blueprint):
            return True
    return False


def _reads_others(facts: Facts, edge: Edge) -> bool:
    """Whether its condition or transform may read the output of another node than its source."""
    texts = [text for text in (edge.condition, edge.transform) if text is not None]
    named = facts.nodes[edge.target].inputs
    if edge.transform is not None and isinstance(named, str) and named.split(".")[0] != edge.source:
        return True
    return any(re.match(r"\w\.n", text) is not None for text in texts)


def _served(facts: Facts, n: str) -> int:
    """For how many visits of other nodes, and of its own, a fallback may run."""
    return (1 if facts.into[n] or not facts.callers[n] else 0) + sum(_served(facts, a) for a in facts.callers[n])


def _names_settled(facts: Facts, n: str, blueprint: Blueprint) -> bool:
    """Whether ``inputs`` names direct predecessors only, in no scope that may go on meanwhile, with a join `all`."""
    inputs = blueprint.node(n).inputs
    values = list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]
    flat = [name for value in values for name in ([value] if isinstance(value, str) else value or ())]
    steady = Counter(facts.edges[i].source for i in facts.into[n] if not facts.leaves[i])
    return facts.nodes[n].join.at_least is None and all(name.split(".")[0] in steady for name in flat)
