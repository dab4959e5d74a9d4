"""Which features a workflow really has, and which rules a run of it really used: to know what random checks cover."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from flowcraft.blueprint import Blueprint

from .facts import Facts
from .oracle import Oracle

__all__ = ["happened", "present"]


def present(blueprint: Blueprint) -> set[str]:
    """The features in this blueprint."""
    facts = Facts(blueprint)
    nodes, edges = list(blueprint.nodes), list(blueprint.edges)
    helpers = {node.id for node in nodes if facts.callers[node.id]}
    fails = [fail for node in nodes if isinstance(fail := node.params.get("fail"), Mapping)]
    nested = [k for k, _ in enumerate(facts.scopes) if len(facts.within(k)) > 1]
    body = [i for i in facts.edges if facts.leaves[i]]
    found = {
        "actions": any(edge.action for edge in edges),
        "conditions": any(edge.condition for edge in edges),
        "transforms": any(edge.transform for edge in edges),
        "inputs": any(node.inputs is not None for node in nodes),
        "parallel edges": max(Counter((e.source, e.target) for e in edges).values(), default=0) > 1,
        "any": any(node.join.at_least == 1 for node in nodes),
        "at least n": any((node.join.at_least or 0) > 1 for node in nodes),
        "more than there are": any((node.join.at_least or 0) > len(facts.into[node.id]) for node in nodes),
        "losers run": any(node.join.at_least and node.join.losers == "run" for node in nodes),
        "failures": bool(fails),
        "fatal or final": any("kind" in fail for fail in fails),
        "retries": any(node.retry.attempts > 1 for node in nodes),
        "fallback": bool(helpers),
        "shared fallback": any(len(callers) > 1 for callers in facts.callers.values()),
        "fallback chain": any(node.fallback is not None and node.id in helpers for node in nodes),
        "fallback with own edges": any(facts.out[n] for n in helpers),
        "fallback with incoming edges": any(facts.into[n] for n in helpers),
        "fallback closes a cycle": any(facts.edges[i].source in helpers for i in facts.back),
        "scope": bool(facts.scopes),
        "nested scope": bool(nested),
        "several back edges": any(len(scope.back) > 1 for scope in facts.scopes),
        "edges out of a scope": bool(body),
        "entry points": bool(blueprint.cycle_entry_points),
        "cycle that nothing enters": any(not scope.entered for scope in facts.scopes),
        "ignored back edges": len(facts.edges) < len(edges),
        "fail-fast": facts.fail_fast,
    }
    return {name for name, has in found.items() if has}


def happened(oracle: Oracle) -> set[str]:
    """What a finished run was about."""
    view = oracle.result()
    states = [node.reason or node.state for node in view.nodes.values()]
    return {
        view.status,
        *(f"a node {state}" for state in states),
        *(f"failure: {failure.kind}" for failure in view.failures),
        *(["failures absolved"] if view.failures and view.status == "completed" else []),
        *(["went round"] if any(turn > 1 for turn in oracle.turn) else []),
        *(
            ["went round inside"]
            if any(
                turn > 1 and len(oracle.facts.around[scope.header]) > 1
                for turn, scope in zip(oracle.turn, oracle.facts.scopes, strict=True)
            )
            else []
        ),
        *(["losers"] if oracle.lost else []),
        *(["fallback ran"] if any(oracle.helps.values()) else []),
    }
