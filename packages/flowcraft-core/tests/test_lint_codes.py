"""Each code of lint: a blueprint that has it, once, and the same blueprint mended, which has not."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from flowcraft.blueprint import Blueprint
from flowcraft.graph import compile_graph
from flowcraft.lint import LintCode, LintReport, lint_blueprint
from flowcraft.lint.decisions import certain_nodes
from flowcraft.nodes import NodeContext, Result
from flowcraft.runtime import FlowRuntime

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "lint.md"
Data = dict[str, Any]


def data(nodes: Sequence[str | Data], edges: Sequence[tuple[str, ...]] = (), bp: str = "bp", **metadata: Any) -> Data:
    """JSON of a blueprint. An edge: source, target, and ``!action``, ``?condition`` or ``=transform``."""
    kinds = {"!": "action", "?": "condition", "=": "transform"}
    made = [{"id": n, "uses": n} if isinstance(n, str) else {"uses": n["id"], **n} for n in nodes]
    rows = [{"source": a, "target": b} | {kinds[x[0]]: x[1:] for x in more} for a, b, *more in edges]
    return {"id": bp, "nodes": made, "edges": rows, "metadata": metadata}


def node(node_id: str, uses: str = "f", *, config: Data | None = None, **params: Any) -> Data:
    return {"id": node_id, "uses": uses, "params": params, "config": config or {}}


def falls(node_id: str, fallback: str) -> Data:
    return node(node_id, config={"fallback": fallback})


def at_least(node_id: str, n: int) -> Data:
    return node(node_id, config={"joinStrategy": {"atLeast": n}})


def controller(condition: object = "input.more", **config: Any) -> Data:
    return node("l", "loop-controller", config={"joinStrategy": "any", **config}, condition=condition)


def scatter(**params: Any) -> Data:
    return node("b_scatter", "batch-scatter", **{"workerUsesKey": "w", "gatherNodeId": "b_gather", **params})


LOOP = [("s", "l"), ("l", "x", "!continue"), ("x", "l"), ("l", "e", "!break")]
GATHER = node("b_gather", "batch-gather")
BATCH = [("s", "b_scatter"), ("b_scatter", "b_gather"), ("b_gather", "e")]
TWO = data(["a", "b"], [("a", "b")])


def sub(blueprint_id: object = "other", **params: Any) -> Data:
    return node("c", "subflow", blueprintId=blueprint_id, **params)


def loop(*nodes: Data, edges: Sequence[tuple[str, ...]] = LOOP) -> Data:
    return data(["s", *nodes, "x", "e"], edges)


def batch(*nodes: Data, edges: Sequence[tuple[str, ...]] = BATCH) -> Data:
    return data(["s", *nodes, "e"], edges)


@dataclass
class Case:
    subject: str
    bad: Data
    good: Data
    registry: Mapping[str, Any] | None = None
    others: Sequence[Data] | None = None
    good_registry: Mapping[str, Any] | None = None


def run(ctx: object) -> None: ...


CODES: dict[str, Case] = {
    "INVALID_BLUEPRINT": Case("a", data([falls("a", "b"), falls("b", "a")]), data([falls("a", "b"), "b"])),
    "INVALID_EDGE_SOURCE": Case("z -> b", data(["a", "b"], [("a", "b"), ("z", "b")]), TWO),
    "INVALID_EDGE_TARGET": Case("a -> z", data(["a", "b"], [("a", "b"), ("a", "z")]), TWO),
    "INVALID_EXPRESSION": Case("a -> b", data(["a", "b"], [("a", "b", "?result.output >")]), TWO),
    "MISSING_NODE_IMPLEMENTATION": Case("b", TWO, TWO, {"a": run}, good_registry={"a": run, "b": run}),
    "FUNCTION_VERSION_MISMATCH": Case(
        "b", data(["a", node("b", "b@2")], [("a", "b")]), data(["a", node("b", "b@2")], [("a", "b")]),
        {"a": run, "b@1": run}, good_registry={"a": run, "b@1": run, "b@2": run},
    ),
    "JOIN_NEVER_FIRES": Case(
        "d", data(["a", "b", "c", at_least("d", 3)], [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]),
        data(["a", "b", "c", at_least("d", 2)], [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]),
    ),
    "UNREACHABLE_NODE": Case(
        "b", data(["a", "b"], [("a", "b", "?1 > 2")]), data(["a", "b"], [("a", "b", "?input > 2")]),
    ),
    "INVALID_LOOP_CONDITION": Case("l", loop(controller(5)), loop(controller("input < 5"))),
    "LOOP_WITHOUT_CONTINUE": Case(
        "l", data(["s", controller(), "e"], [("s", "l"), ("l", "e", "!break")]), loop(controller()),
    ),
    "LOOP_NOT_CLOSED": Case("l", loop(controller(), edges=[e for e in LOOP if e != ("x", "l")]), loop(controller())),
    "INVALID_BATCH_WORKER_KEY": Case("b_scatter", batch(scatter(workerUsesKey=None), GATHER), batch(scatter(), GATHER)),
    "INVALID_BATCH_OPTION": Case(
        "b_scatter", batch(scatter(chunkSize=0), GATHER), batch(scatter(chunkSize=5, onItemError="collect"), GATHER),
    ),
    "BATCH_WITHOUT_GATHER": Case(
        "b_scatter", data(["s", scatter(gatherNodeId="e"), "e"], [("s", "b_scatter"), ("b_scatter", "e")]),
        batch(scatter(), GATHER),
    ),
    "GATHER_WITHOUT_BATCH": Case(
        "b_gather", data(["s", GATHER, "e"], [("s", "b_gather"), ("b_gather", "e")]), batch(scatter(), GATHER),
    ),
    "INVALID_SUBFLOW_BLUEPRINT_ID": Case("c", data([sub(None)]), data([sub()])),
    "INVALID_SUBFLOW_MAPPING": Case("c", data([sub(inputs=["a"])]), data(["a", sub(inputs={"x": "a"})], [("a", "c")])),
    "ENDLESS_SUBFLOW": Case(
        "c", data(["a", sub("bp")], [("a", "c")]), data(["a", sub("bp")], [("a", "c", "?input.depth < 3")]),
    ),
    "INVALID_DURATION": Case(
        "z", data([node("z", "sleep", duration="5 weeks")]), data([node("z", "sleep", duration="5m")]),
    ),
    "INVALID_EVENT_NAME": Case("w", data([node("w", "wait", eventName=7)]), data([node("w", "wait", eventName="x")])),
    "COMPENSATION_WITH_EDGES": Case(
        "u", data([node("a", config={"compensate": "u"}), "u", "b"], [("a", "b"), ("u", "b")]),
        data([node("a", config={"compensate": "u"}), "u", "b"], [("a", "b")]),
    ),
    "INVALID_LIMIT_KEY": Case(
        "b", data(["a", node("b", config={"limits": [{"key": "input.x + y", "concurrency": 1}]})], [("a", "b")]),
        data(["a", node("b", config={"limits": [{"key": "input.x + params.y", "concurrency": 1}]})], [("a", "b")]),
    ),
    "EARLY_EXIT_INTO_BODY": Case(
        "x -> d", loop(controller(), {"id": "d"}, edges=[*LOOP, ("x", "d", "!found")]),
        loop(controller(), {"id": "d"}, edges=[*LOOP, ("x", "d", "!found"), ("e", "d")]),
    ),
    "ENDLESS_CYCLE_IGNORED": Case(
        "b -> a", data(["a", "b", "c"], [("a", "b"), ("b", "a"), ("b", "c")]),
        data(["a", "b", "c"], [("a", "b"), ("b", "a", "!again"), ("b", "c")]),
    ),
    "ENDLESS_LOOP": Case(
        "l", loop(controller("true")), loop(controller("true"), edges=[*LOOP, ("x", "e", "!done")]),
    ),
    "LOOP_WITHOUT_BREAK": Case(
        "l", data(["s", controller(), "x", "y"], [("s", "l"), ("s", "y"), *LOOP[1:3]]), loop(controller()),
    ),
    "CYCLE_WITHOUT_ENTRY": Case(
        "a", data(["s", "t", "a", "b"], [("s", "t"), ("a", "b"), ("b", "a", "?input")]),
        data(["s", "t", "a", "b"], [("s", "t"), ("s", "a"), ("a", "b"), ("b", "a", "?input")]),
    ),
    "ORPHAN_NODE": Case("c", data(["a", "b", "c"], [("a", "b")]), data(["a", "b", "c"], [("a", "b"), ("b", "c")])),
    "NO_TERMINAL_NODE": Case(
        "bp", data(["s", "a"], [("s", "a"), ("a", "s", "?input")]),
        data(["s", "a", "e"], [("s", "a"), ("a", "s", "?input"), ("a", "e")]),
    ),
    "DUPLICATE_EDGE": Case("a -> b", data(["a", "b"], [("a", "b"), ("a", "b")]), TWO),
    "EDGE_NEVER_TAKEN": Case(
        "a -> c", data(["a", "b", "c"], [("a", "b"), ("a", "c", "?false"), ("b", "c")]),
        data(["a", "b", "c"], [("a", "b"), ("a", "c", "?input"), ("b", "c")]),
    ),
    "ALL_JOIN_OF_ALTERNATIVES": Case(
        "d", data(["a", "b", "c", "d"], [("a", "b", "!x"), ("a", "c", "!y"), ("b", "d"), ("c", "d")]),
        data(["a", "b", "c", at_least("d", 1)], [("a", "b", "!x"), ("a", "c", "!y"), ("b", "d"), ("c", "d")]),
    ),
    "FALLBACK_ALSO_REGULAR": Case(
        "f", data(["s", falls("a", "f"), "f"], [("s", "a"), ("s", "f")]),
        data(["s", falls("a", "f"), "f"], [("s", "a")]),
    ),
    "FALLBACK_SHARES_TARGET": Case(
        "f -> e", data([falls("a", "f"), "f", "e"], [("a", "e"), ("f", "e")]),
        data([falls("a", "f"), "f", "e"], [("a", "e")]),
    ),
    "FALLBACK_ROUTES_ONCE": Case(
        "f", data([falls("a", "f"), falls("b", "f"), "f", "e"], [("a", "b"), ("f", "e")]),
        data([falls("a", "f"), "b", "f", "e"], [("a", "b"), ("f", "e")]),
    ),
    "FALLBACK_DRAGS_INTO_CYCLE": Case(
        "p", data(["s", falls("p", "f"), falls("a", "f"), "f", "e"],
                  [("s", "p"), ("p", "e"), ("s", "a"), ("a", "a", "!again"), ("a", "e")], cycleEntryPoints=["a"]),
        data(["s", falls("p", "f"), falls("a", "g"), "f", "g", "e"],
             [("s", "p"), ("p", "e"), ("s", "a"), ("a", "a", "!again"), ("a", "e")], cycleEntryPoints=["a"]),
    ),
    "UNKNOWN_NAME": Case(
        "load -> b", data(["load", "b"], [("load", "b", "?_outputs.laod.id == 1")]),
        data(["load", "b"], [("load", "b", "?_outputs.load.id == 1")]),
    ),
    "TIMEOUT_BEYOND_RUN": Case(
        "a", data([node("a", config={"timeout": 9000})], timeout=5000),
        data([node("a", config={"timeout": 4000})], timeout=5000),
    ),
    "WAIT_TIMEOUT_WITHOUT_ROUTE": Case(
        "w", data([node("w", "wait", timeout="1d"), "b"], [("w", "b")]),
        data([node("w", "wait", timeout="1d"), "b", "c"], [("w", "b"), ("w", "c", "!timeout")]),
    ),
    "TIMEOUT_ROUTE_WITHOUT_TIMEOUT": Case(
        "w", data([node("w", "wait"), "b", "c"], [("w", "b"), ("w", "c", "!timeout")]),
        data([node("w", "wait", timeout=5), "b", "c"], [("w", "b"), ("w", "c", "!timeout")]),
    ),
    "WEBHOOK_WITHOUT_WAIT": Case(
        "h", data([node("h", "webhook"), "b"], [("h", "b")]),
        data([node("h", "webhook"), node("b", "wait")], [("h", "b")]),
    ),
    "INVALID_WEBHOOK_WAIT": Case(
        "h", data([node("h", "webhook", waitNodeId="c"), node("b", "wait"), "c"], [("h", "b"), ("b", "c")]),
        data([node("h", "webhook", waitNodeId="b"), node("b", "wait"), "c"], [("h", "b"), ("b", "c")]),
    ),
    "AMBIGUOUS_WEBHOOK": Case(
        "h", data([node("h", "webhook"), node("b", "wait"), node("c", "wait")], [("h", "b"), ("b", "c")]),
        data([node("h", "webhook", waitNodeId="c"), node("b", "wait"), node("c", "wait")], [("h", "b"), ("b", "c")]),
    ),
}  # fmt: skip


def lint(found: Data, registry: Mapping[str, Any] | None = None, others: Sequence[Data] | None = None) -> LintReport:
    return lint_blueprint(found, registry, None if others is None else [Blueprint.from_dict(other) for other in others])


def test_every_code_has_a_case() -> None:
    assert set(CODES) == set(get_args(LintCode))


@pytest.mark.parametrize("code", CODES)
def test_the_bad_one_has_it_and_nothing_else(code: str) -> None:
    case = CODES[code]
    report = lint(case.bad, case.registry, case.others)
    assert [(issue.code, issue.subject) for issue in report.issues] == [(code, case.subject)]
    (issue,) = report.issues
    assert issue.subject.split(" -> ")[0].removesuffix("_scatter") in issue.message, "the message names the place"
    assert issue.remedy
    assert "\n" not in str(issue)


@pytest.mark.parametrize("code", CODES)
def test_the_mended_one_has_it_not(code: str) -> None:
    case = CODES[code]
    assert lint(case.good, case.good_registry, case.others).issues == ()


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_its_row_in_the_document(code: str) -> None:
    if not DOCUMENT.exists():
        pytest.skip("the documents are in the repository, not in the sdist")
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = re.findall(rf"^\| `{code}` \| (error|warning) \| .+ \| .+ \|$", text, re.MULTILINE)
    case = CODES[code]
    assert rows == [lint(case.bad, case.registry, case.others).issues[0].severity]


def test_the_document_has_no_other_row() -> None:
    if not DOCUMENT.exists():
        pytest.skip("the documents are in the repository, not in the sdist")
    named = re.findall(r"^\| `([A-Z_]+)` \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(CODES)


# ---- more of what is hard to decide: each of these is right, or wrong, for a reason of its own


def codes(found: Data, **options: Any) -> list[tuple[str, str]]:
    return [(issue.code, issue.subject) for issue in lint(found, **options).issues]


DIAMOND = [("b", "d"), ("c", "d")]


@pytest.mark.parametrize(
    ("ways", "exclusive"),
    [
        (["!x", "!y"], True),
        (["!x", "!x"], False),
        (["?result.output == 'a'", "?result.output === 'b'"], True),
        (["?result.output == 'a'", "?'b' == result.output"], True),
        (["?result.output == 1", "?result.output == 1.0"], False),
        (["?result.output == 1", "?result.output == true"], True),
        (["?result.output.ok", "?!(result.output.ok)"], True),
        (["?result.output.ok", "?not result.output.ok"], True),
        (["?result.output.ok && input.big", "?!result.output.ok && input.big"], True),
        (["?result.output.ok || input.big", "?!(result.output.ok or input.big)"], True),
        (["?result.output != 'a'", "?result.output == 'a'"], True),
        (["?result.output != 'a'", "?result.output != 'b'"], False),
        (["?result.output > 1", "?result.output < 1"], False),
        (["?input[0]", "?input[1]"], False),
        (["?!input[0]", "?input[0]"], True),
    ],
)
def test_alternatives(ways: list[str], exclusive: bool) -> None:
    edges = [("a", "b", ways[0]), ("a", "c", ways[1]), *DIAMOND]
    assert codes(data(["a", "b", "c", "d"], edges)) == ([("ALL_JOIN_OF_ALTERNATIVES", "d")] if exclusive else [])
    both = data(["a", "b", "c", at_least("d", 2)], edges)
    assert codes(both) == ([("JOIN_NEVER_FIRES", "d")] if exclusive else [])


def test_alternatives_are_seen_through_nodes_between() -> None:
    edges = [("a", "b", "!x"), ("a", "c", "!y"), ("b", "b2"), ("c", "c2"), ("b2", "d"), ("c2", "d")]
    assert codes(data(["a", "b", "c", "b2", "c2", at_least("d", 2)], edges)) == [("JOIN_NEVER_FIRES", "d")]


def test_a_third_predecessor_needs_the_join_all() -> None:
    edges = [("a", "b", "!x"), ("a", "c", "!y"), ("s", "a"), ("s", "t"), ("t", "d"), *DIAMOND]
    assert codes(data(["s", "t", "a", "b", "c", "d"], edges)) == []
    assert codes(data(["s", "t", "a", "b", "c", at_least("d", 3)], edges)) == [("JOIN_NEVER_FIRES", "d")]
    assert codes(data(["s", "t", "a", "b", "c", at_least("d", 2)], edges)) == []


def test_alternatives_of_two_rounds_do_not_exclude_each_other() -> None:
    """The loop may take x in one round and y in the next: both edges that leave it become LIVE. Inside it, never."""
    edges = [("s", "a"), ("a", "b", "!x"), ("a", "c", "!y"), ("b", "a", "?input"), ("c", "a", "?input")]
    assert codes(data(["s", "a", "b", "c", at_least("d", 2)], [*edges, *DIAMOND])) == [("JOIN_NEVER_FIRES", "d")]
    assert codes(data(["s", "a", "b", "c", at_least("d", 3)], [*edges, *DIAMOND, ("s", "d")])) == []


def test_a_header_that_only_its_cycle_leads_to_runs_in_later_rounds() -> None:
    """There its join is not asked: the first round skips it, and whatever leads back starts the next one."""
    edges = [("s", "x"), ("x", "h", "?input"), ("h", "x"), ("x", "e")]
    assert codes(data(["s", "x", at_least("h", 2), "e"], edges, cycleEntryPoints=["h"])) == []


def test_a_loop_that_is_its_own_body() -> None:
    assert codes(data(["s", controller(), "e"], [("s", "l"), ("l", "l", "!continue"), ("l", "e", "!break")])) == []


def test_alternatives_of_a_fallback_that_has_several_visits() -> None:
    nodes = [falls("p", "a"), falls("q", "a"), "a", "b", "c", at_least("d", 2)]
    assert codes(data(nodes, [("p", "q"), ("a", "b", "!x"), ("a", "c", "!y"), *DIAMOND])) == [
        ("FALLBACK_ROUTES_ONCE", "a")
    ]
    nodes = [falls("p", "a"), "a", "b", "c", at_least("d", 2)]
    assert codes(data(nodes, [("a", "b", "!x"), ("a", "c", "!y"), *DIAMOND])) == [("JOIN_NEVER_FIRES", "d")]


def test_with_inputs_the_join_all_of_alternatives_is_meant() -> None:
    reads = {"id": "d", "inputs": ["b", "c"]}
    assert codes(data(["a", "b", "c", reads], [("a", "b", "!x"), ("a", "c", "!y"), *DIAMOND])) == []


def test_what_nothing_reaches_is_told_once_for_each_node() -> None:
    sleep = node("z", "sleep", duration=5)
    assert codes(data([sleep, "a", "b"], [("z", "a", "!done"), ("a", "b")])) == [
        ("UNREACHABLE_NODE", "a"),
        ("UNREACHABLE_NODE", "b"),
    ]
    assert codes(data([{**sleep, "config": {"fallback": "f"}}, "f", "a"], [("z", "a", "!done")])) == []


def test_a_loop_whose_condition_never_holds_has_an_unreachable_body() -> None:
    assert codes(loop(controller("1 > 2"))) == [("UNREACHABLE_NODE", "x")]
    assert codes(loop(controller(), edges=[*LOOP, ("l", "e", "!breka")])) == [("EDGE_NEVER_TAKEN", "l -> e")]
    assert codes(loop(controller(), edges=[*LOOP[:3], ("l", "e")])) == []  # the edge without an action is the way out


def test_a_controller_with_a_function_has_actions_of_its_own() -> None:
    own = node("l", "loop-controller")
    assert (
        codes(data(["s", own, "x", "e"], [("s", "l"), ("l", "x", "!again"), ("x", "l"), ("l", "e", "!enough")])) == []
    )
    assert codes(data([own]), registry={}) == [("MISSING_NODE_IMPLEMENTATION", "l")]
    assert codes(data([node("z", "sleep", duration=1)]), registry={}) == []


@pytest.mark.parametrize("duration", [0, 1500, 0.5, "90s", "5m", "2h", "7d"])
def test_durations(duration: object) -> None:
    assert codes(data([node("z", "sleep", duration=duration)])) == []


@pytest.mark.parametrize("duration", [None, -1, True, "", "5", "5w", "'5m'", [5], 1e300])
def test_no_durations(duration: object) -> None:
    assert codes(data([node("z", "sleep", duration=duration)])) == [("INVALID_DURATION", "z")]


def test_a_fallback_is_a_route_for_a_timeout() -> None:
    assert codes(data([node("w", "wait", config={"fallback": "f"}, timeout=5), "f"])) == []
    wrong = data([node("w", "wait", timeout="soon"), "b"], [("w", "b", "!timeout")])
    assert codes(wrong) == [("INVALID_DURATION", "w")]


def test_batches_with_a_worker_that_is_not_registered() -> None:
    found = batch(scatter(), GATHER)
    functions = {"s": run, "e": run}
    assert codes(found, registry=functions) == [("INVALID_BATCH_WORKER_KEY", "b_scatter")]
    assert codes(found, registry={**functions, "w@3": run}) == [("FUNCTION_VERSION_MISMATCH", "b_scatter")]
    assert codes(found, registry={**functions, "w": run}) == []


@pytest.mark.parametrize(
    "params",
    [{"concurrency": True}, {"itemsPerJob": "3"}, {"onItemError": "ignore"}, {"onItemError": -1}, {"outputKey": 5}],
)
def test_options_of_batches(params: Data) -> None:
    assert codes(batch(scatter(**params), GATHER)) == [("INVALID_BATCH_OPTION", "b_scatter")]


def test_two_batches_need_two_gathers() -> None:
    other = {**scatter(), "id": "c_scatter"}
    found = batch(scatter(), other, GATHER, edges=[*BATCH, ("s", "c_scatter"), ("c_scatter", "b_gather")])
    assert ("BATCH_WITHOUT_GATHER", "c_scatter") in codes(found)


def test_a_batch_needs_its_edge_and_decides_nothing_inside() -> None:
    apart = batch(scatter(), GATHER, edges=[("s", "b_scatter"), ("s", "b_gather"), ("b_gather", "e")])
    assert ("BATCH_WITHOUT_GATHER", "b_scatter") in codes(apart)
    edges = [("b_scatter", "b_gather", "?input") if edge == BATCH[1] else edge for edge in BATCH]
    assert ("INVALID_BATCH_OPTION", "b_scatter -> b_gather") in codes(batch(scatter(), GATHER, edges=edges))


def test_the_output_of_a_batch_has_a_name() -> None:
    assert codes(batch(scatter(), GATHER, edges=[*BATCH[:2], ("b_gather", "e", "?len(_outputs.b) > 2")])) == []


def test_subflows_of_a_runtime() -> None:
    other = Blueprint.from_dict(data(["a"], bp="other"))
    runtime = FlowRuntime(blueprints=[other], registry={"a": run})
    report = lint_blueprint(Blueprint.from_dict(data([sub("othr")])), runtime)
    assert [issue.remedy for issue in report.errors] == ["did you mean 'other'?"]
    assert lint_blueprint(Blueprint.from_dict(data([sub("other")])), runtime).issues == ()
    assert codes(data([sub("unknown")])) == [], "nobody knows which blueprints there are"
    assert codes(data([sub("unknown")]), others=[]) == [("INVALID_SUBFLOW_BLUEPRINT_ID", "c")]


def test_subflows_that_run_each_other() -> None:
    back = data(["x", sub("bp")], [("x", "c")], bp="other")
    report = lint(data([sub("other")]), others=[back])
    assert [issue.code for issue in report.issues] == ["ENDLESS_SUBFLOW"]
    assert "'bp' runs 'other' runs 'bp'" in report.issues[0].message
    once = data(["x", sub("bp")], [("x", "c", "!again")], bp="other")
    assert codes(data([sub("other")]), others=[once]) == []


@pytest.mark.parametrize("mapping", [["a"], {"x": 5}, {"x": ""}, "a"])
@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_mappings_of_subflows(side: str, mapping: object) -> None:
    assert codes(data([sub(**{side: mapping})])) == [("INVALID_SUBFLOW_MAPPING", "c")]


def test_names_in_the_mapping_of_a_subflow_are_read() -> None:
    assert codes(data(["price", sub(inputs={"x": "prices.eur"})], [("price", "c")])) == [("UNKNOWN_NAME", "c")]
    assert codes(data(["price", sub(inputs={"x": "a.["})], [("price", "c")])) == [("INVALID_EXPRESSION", "c")]


def test_what_is_certain_to_run() -> None:
    def certain(found: Data) -> set[str]:
        graph = compile_graph(Blueprint.from_dict(found))
        return {graph.ids[n] for n in certain_nodes(graph)}

    plain = [("a", "b"), ("a", "c"), *DIAMOND]
    assert certain(data(["a", "b", "c", "d"], plain)) == set("abcd")
    assert certain(data(["a", "b", "c", "d"], [("a", "b", "?input"), ("a", "c"), *DIAMOND])) == set("acd")
    assert certain(data(["a", "b", "c", "d"], [("a", "b", "!x"), ("a", "c"), *DIAMOND])) == {"a"}
    assert certain(data(["a", "b", "c", at_least("d", 1)], plain)) == set(), "any of them may be cancelled as a loser"
    assert certain(data([falls("a", "b"), "b", "c"], [("a", "c"), ("b", "c")])) == set("ac")
    assert certain(loop(controller())) == {"s", "l"}


def test_data_that_is_no_blueprint_is_reported_and_never_raises() -> None:
    assert codes({"id": "x", "nodes": []}) == [("INVALID_BLUEPRINT", "x")]
    assert [code for code, _ in codes({"nodes": [{"id": "a"}]})] == ["INVALID_BLUEPRINT"]
    assert [code for code, _ in codes({"id": "x", "nodes": 5, "edges": [None, {"source": 1}]})] == ["INVALID_BLUEPRINT"]
    both = data(["a"], [("x", "y")])
    assert codes(both) == [("INVALID_EDGE_SOURCE", "x -> y"), ("INVALID_EDGE_TARGET", "x -> y")]
    named = {"id": "x", "nodes": {"a": {"uses": "f"}}, "edges": {"1": {"source": "a", "target": "b"}}}
    assert codes(named) == [("INVALID_EDGE_TARGET", "a -> b")]


def test_large_blueprints_with_choices_are_quick() -> None:
    names = [f"n{i}" for i in range(3000)]
    edges = [edge for i in range(2999) for edge in ((names[i], names[i + 1], "!x"), (names[i], names[-1], "!y"))]
    lint(data(names, edges))


def test_where_the_items_of_a_batch_come_from_is_a_function_too() -> None:
    found = batch(scatter(sourceUsesKey="orders.stream"), GATHER)
    functions = {"s": run, "e": run, "w": run}
    assert codes(found, registry=functions) == [("MISSING_NODE_IMPLEMENTATION", "b_scatter")]
    assert codes(found, registry={**functions, "orders.stream": run}) == []


@pytest.mark.parametrize(
    ("edges", "told"),
    [
        ([("x", "d", "!found")], ["x -> d"]),
        ([("x", "d", "?result.output == 'end'")], []),  # beside the way round: what the body does now and then
        ([("x", "d", "!found"), ("l", "d", "!break")], []),
        ([("x", "d", "!found"), ("d", "l")], []),
        ([("x", "y"), ("y", "d", "!found"), ("y", "l")], ["y -> d"]),
        ([("x", "d")], []),
    ],
)
def test_early_exits_that_are_none(edges: list[tuple[str, ...]], told: list[str]) -> None:
    names = {end for edge in edges for end in edge[:2]} - {"l", "x"}
    found = lint(loop(controller(), *({"id": name} for name in sorted(names)), edges=[*LOOP, *edges])).issues
    assert [issue.subject for issue in found if issue.code == "EARLY_EXIT_INTO_BODY"] == told


@pytest.mark.parametrize("taken", [True, False])
async def test_an_early_exit_into_the_body_does_what_is_told_of_it(taken: bool) -> None:
    """Taken, it ends the loop, and what follows the loop does not run; the finding says so."""
    case = CODES["EARLY_EXIT_INTO_BODY"]

    async def x(ctx: NodeContext[Any, Any]) -> Result[Any]:
        return Result({"more": False}, action="found" if taken else None)

    async def other(ctx: NodeContext[Any, Any]) -> Any:
        return {"more": True}

    registry = {"s": other, "x": x, "d": other, "e": other}
    runtime = FlowRuntime(blueprints=[Blueprint.from_dict(case.bad)], registry=registry)
    result = await runtime.run("bp")
    assert (result.nodes["d"], result.nodes["e"]) == (("completed", "skipped") if taken else ("skipped", "completed"))


def test_every_bad_limit_key_is_told() -> None:
    keys = ["input.x", "input.", "secret", "params.a + context.b"]
    limits = [{"name": str(n), "key": key, "concurrency": 1} for n, key in enumerate(keys)]
    found = lint(data([node("a", config={"limits": limits})])).issues
    assert [issue.code for issue in found] == ["INVALID_LIMIT_KEY"] * 3
    for wrong in ("does not parse", "reads 'secret'", "reads 'b'"):
        assert sum(wrong in issue.message for issue in found) == 1, wrong
