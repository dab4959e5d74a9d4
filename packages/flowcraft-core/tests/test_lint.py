"""Lint finds what is wrong, says where, and says nothing about what is right."""

from typing import Any

import pytest

from flowcraft.blueprint import Blueprint
from flowcraft.errors import DefinitionError
from flowcraft.lint import analyze_blueprint, lint_blueprint


def blueprint(nodes: list[Any], edges: list[Any] = [], **metadata: Any) -> Blueprint:  # noqa: B006 - it is only read
    made = [{"id": n, "uses": n} if isinstance(n, str) else {"uses": n["id"], **n} for n in nodes]
    ends = [dict(zip(("source", "target", "condition"), e, strict=False)) for e in edges]
    return Blueprint.from_dict({"id": "bp", "nodes": made, "edges": ends, "metadata": metadata})


def function(ctx: object) -> None: ...


DIAMOND = blueprint(["a", "b", "c", "d"], [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])

CASES: list[tuple[Blueprint, str, str]] = [
    (blueprint(["a", "b"], [("a", "b", "result.output >")]), "INVALID_EXPRESSION", "a -> b"),
    (blueprint([{"id": "a", "inputs": "x.["}]), "INVALID_EXPRESSION", "a"),
    (blueprint(["a", {"id": "b", "config": {"joinStrategy": {"atLeast": 2}}}], [("a", "b")]), "JOIN_NEVER_FIRES", "b"),
    (blueprint(["a", "b", "c"], [("a", "b"), ("b", "a"), ("b", "c")]), "ENDLESS_CYCLE_IGNORED", "b -> a"),
    (blueprint(["s", "t", "a", "b"], [("s", "t"), ("a", "b"), ("b", "a", "true")]), "CYCLE_WITHOUT_ENTRY", "a"),
    (blueprint(["a", "b", "c"], [("a", "b")]), "ORPHAN_NODE", "c"),
    (blueprint(["s", "a"], [("s", "a"), ("a", "s", "result.output")]), "NO_TERMINAL_NODE", "bp"),
    (blueprint(["a", "b"], [("a", "b"), ("a", "b")]), "DUPLICATE_EDGE", "a -> b"),
    (
        blueprint(["s", {"id": "a", "config": {"fallback": "f"}}, "f"], [("s", "a"), ("s", "f")]),
        "FALLBACK_ALSO_REGULAR", "f",
    ),
    (
        blueprint([{"id": "a", "config": {"fallback": "f"}}, "f", "e"], [("a", "e"), ("f", "e")]),
        "FALLBACK_SHARES_TARGET", "f -> e",
    ),
    (blueprint(["load-user", "b"], [("load-user", "b", "load_user.id == 1")]), "UNKNOWN_NAME", "load-user -> b"),
    (blueprint(["a", "b"], [("a", "b", "_outputs.zebra > 1")]), "UNKNOWN_NAME", "a -> b"),
    (blueprint(["price", {"id": "b", "inputs": {"x": "prices.eur"}}], [("price", "b")]), "UNKNOWN_NAME", "b"),
    (blueprint([{"id": "a", "config": {"timeout": 9000}}], timeout=5000), "TIMEOUT_BEYOND_RUN", "a"),
    (
        blueprint([{"id": "a", "config": {"fallback": "b"}}, {"id": "b", "config": {"fallback": "a"}}]),
        "INVALID_BLUEPRINT", "a",
    ),
    (
        blueprint(["s", "a", "b"], [("s", "a"), ("s", "b"), ("a", "b", "true"), ("b", "a", "true")]),
        "INVALID_BLUEPRINT", "a",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("given", "code", "subject"), CASES, ids=[f"{code}-{subject}" for _, code, subject in CASES])
def test_finding(given: Blueprint, code: str, subject: str) -> None:
    found = [(issue.code, issue.subject) for issue in lint_blueprint(given).issues]
    assert found == [(code, subject)]


def test_nothing_to_say_about_a_good_one() -> None:
    report = lint_blueprint(DIAMOND, dict.fromkeys("abcd", function))
    assert report.is_valid
    assert report.issues == ()


def test_context_keys_are_no_typing_errors() -> None:
    good = blueprint(["a", "b"], [("a", "b", 'customer.tier == "gold" && context["x"] > result.output')])
    assert lint_blueprint(good).issues == ()


def test_missing_implementations_name_what_is_there() -> None:
    report = lint_blueprint(DIAMOND, {"a": function, "b@2": function, "cc": function})
    assert not report.is_valid
    assert [(issue.subject, issue.remedy) for issue in report.errors] == [
        ("b", "register 'b' as well, for the runs that need it, or make the blueprint use 'b@2'"),
        ("c", "register 'c' (there is 'cc')"),
        ("d", "register 'd'"),
    ]


def test_all_is_told_at_once_errors_first() -> None:
    bad = blueprint(
        [{"id": "a", "inputs": "x.["}, {"id": "b", "inputs": "y.["}, "c"], [("a", "b", "("), ("a", "b", "(")], timeout=1
    )
    report = lint_blueprint(bad, {})
    severities = [issue.severity for issue in report.issues]
    assert severities == sorted(severities)
    codes = [issue.code for issue in report.errors]
    assert codes.count("INVALID_EXPRESSION") == 4
    assert codes.count("MISSING_NODE_IMPLEMENTATION") == 3
    assert all(issue.remedy and issue.message and issue.to_dict()["code"] == issue.code for issue in report.issues)


def test_registry_with_something_else_is_refused() -> None:
    with pytest.raises(DefinitionError):
        lint_blueprint(DIAMOND, {"a": 5})  # type: ignore[dict-item]


def test_large_blueprints_are_quick() -> None:
    nodes = [{"id": f"n{i}", "inputs": f"n{i - 1}"} if i else "n0" for i in range(3000)]
    report = lint_blueprint(blueprint(nodes, [(f"n{i}", f"n{i + 1}") for i in range(2999)]))
    assert report.issues == ()


def test_analysis() -> None:
    found = analyze_blueprint(DIAMOND)
    assert (found.start_node_ids, found.terminal_node_ids) == (("a",), ("d",))
    assert (found.node_count, found.edge_count, found.cycles, found.is_dag) == (4, 4, (), True)


def test_analysis_of_cycles() -> None:
    edges = [("s", "a"), ("a", "b"), ("b", "a", "again"), ("b", "c"), ("c", "c", "again"), ("c", "e")]
    found = analyze_blueprint(
        blueprint(["s", "a", "b", "c", "e", {"id": "x", "config": {"fallback": "f"}}, "f"], edges)
    )
    assert found.cycles == (("a", "b", "a"), ("c", "c"))
    assert not found.is_dag
    assert found.start_node_ids == ("s", "x")
    assert found.terminal_node_ids == ("e", "x")


def test_analysis_walks_deep_graphs() -> None:
    nodes = [f"n{i}" for i in range(5000)]
    found = analyze_blueprint(blueprint(nodes, [(f"n{i}", f"n{i + 1}") for i in range(4999)]))
    assert found.is_dag
