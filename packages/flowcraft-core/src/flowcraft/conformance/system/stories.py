"""The constructs, one small story each."""

from __future__ import annotations

from typing import Final

from flowcraft.blueprint import ANY, Edge, Join, Node, Retry
from flowcraft.conformance.system.story import Story, blueprint

__all__ = ["STORIES"]


def _ms(seconds: float) -> float:
    return seconds * 1000.0


def _batch(count: int, *, items: str = "value", **params: object) -> list[Node | str]:
    return [
        Node("numbers", "numbers", {"count": count}),
        Node("all_scatter", "batch-scatter", {"workerUsesKey": items, "gatherNodeId": "all", **params}),
        Node("all", "batch-gather"), "end",
    ]  # fmt: skip


_BATCH_EDGES: Final = ["numbers>all_scatter", "all_scatter>all", "all>end"]


def _item(number: int) -> str:
    return f"all:items({number})"


_CHAIN = Story(
    "chain", "a chain of nodes",
    lambda _: [blueprint("chain", ["a", "b", "c"], ["a>b", "b>c"])],
    outputs={"c": "c(b(a(1)))"}, executed={"a": 1, "b": 1, "c": 1},
)  # fmt: skip

_LONG = Story(
    "long-node", "a node that takes longer than a lease and longer than a message is away",
    lambda unit: [
        blueprint("long", [Node("a", "nap", {"seconds": 3 * unit}), "b"], ["a>b"]),
    ],
    outputs={"b": "b(a(1))"}, executed={"a": 1, "b": 1},
)  # fmt: skip

_FAN = Story(
    "fan", "a fan with a join over all of it, of which one branch takes longer",
    lambda unit: [
        blueprint(
            "fan", ["a", "b", "c", Node("d", "nap", {"seconds": unit / 2}), "e"],
            ["a>b", "a>c", "a>d", "b>e", "c>e", "d>e"],
        )
    ],
    outputs={"e": "e(b(a(1)),c(a(1)),d(a(1)))"}, executed=dict.fromkeys("abcde", 1),
)  # fmt: skip

_ANY = Story(
    "any-join", "a join that needs any of its predecessors, and cancels the others",
    lambda unit: [
        blueprint(
            "any", ["a", "b", Node("c", "nap", {"seconds": 60 * unit}), Node("d", "value", join=ANY), "e"],
            ["a>b", "a>c", "b>d", "c>d", "d>e"],
        )
    ],
    outputs={"e": "e(d(b(a(1))))"}, nodes={"c": "cancelled"}, executed={"d": 1, "e": 1},
)  # fmt: skip

_AT_LEAST = Story(
    "at-least-join", "a join that needs two of three predecessors, of which one fails",
    lambda _: [
        blueprint(
            "two", ["a", "b", "c", "d:fail", Node("e", "value", join=Join(2, "run"))],
            ["a>b", "a>c", "a>d", "b>e", "c>e", "d>e"],
        )
    ],
    outputs={"e": "e(b(a(1)),c(a(1)))"}, nodes={"d": "failed"}, executed={"d": 1, "e": 1},
)  # fmt: skip

_CONDITIONS = Story(
    "conditions", "actions, conditions and transforms, with branches that are not taken",
    lambda _: [
        blueprint(
            "conditions", [Node("a", "choose", {"action": "left"}), "b", "c", "d", "e", "f"],
            ["a>b?left", "a>c?right", "b>d", "c>d", Edge("d", "e", condition="false"),
             Edge("d", "f", condition="true", transform="input"), "e>f"],
        )
    ],
    outputs={"d": "d(b(a(1)))", "f": "f(d(b(a(1))))"}, nodes={"c": "skipped", "e": "skipped"}, executed={"d": 1},
)  # fmt: skip

_FALLBACK = Story(
    "fallback", "a node that fails, and another one that stands in",
    lambda _: [
        blueprint("fallback", ["a", Node("b", "fail", fallback="f"), "f", "c"], ["a>b", "b>c"]),
    ],
    outputs={"f": "f(RuntimeError!)", "c": "c(f(RuntimeError!))"}, executed={"b": 1, "f": 1, "c": 1},
)  # fmt: skip

_RETRY = Story(
    "retry", "a node that is tried again at once, and one that is tried again after a timer",
    lambda unit: [
        blueprint(
            "retry",
            [Node("a", "flaky", {"failures": 2}, retry=Retry(3, delay=0.0, jitter=0.0)),
             Node("b", "flaky", {"failures": 1}, retry=Retry(2, delay=max(0.6, unit), jitter=0.0)), "c"],
            ["a>b", "b>c"],
        )
    ],
    outputs={"c": "c(b(a(1)))"}, executed={"a": 3, "b": 2, "c": 1},
)  # fmt: skip

_FAILURE = Story(
    "failure", "a node that fails for good, while a branch beside it goes on",
    lambda _: [
        blueprint(
            "failure", ["a", "b:fail", "c", "d", "e"], ["a>b", "a>c", "b>d", "c>d", "c>e"],
        )
    ],
    status="failed", outputs={"e": "e(c(a(1)))"}, nodes={"b": "failed", "d": "skipped"}, executed={"b": 1, "d": 0},
)  # fmt: skip

_FAIL_FAST = Story(
    "fail-fast", "a failure that stops everything else",
    lambda unit: [
        blueprint(
            "fast", ["a", "b:fail", Node("c", "nap", {"seconds": 60 * unit}), "d"], ["a>b", "a>c", "c>d"],
            failure="fail-fast",
        )
    ],
    status="failed", nodes={"b": "failed", "d": "cancelled"}, executed={"d": 0},
)  # fmt: skip

_TIMEOUT = Story(
    "timeout", "a node that takes too long, and its fallback",
    lambda unit: [
        blueprint(
            "timeout", ["a", Node("b", "overrun", timeout=min(unit / 2, 0.02), fallback="f"), "f", "c"], ["a>b", "b>c"],
        )
    ],
    outputs={"c": "c(f(NodeTimedOut!))"}, executed={"b": 1, "f": 1},
)  # fmt: skip

_LOOP = Story(
    "loop", "a cycle that goes round until its condition holds, and a join outside that waits for its end",
    lambda _: [
        blueprint(
            "loop", ["s", "a:count", "b:count", "c"],
            ["s>a", "a>b", Edge("b", "a", condition="result.output < 5"), "s>c",
             Edge("b", "c", condition="result.output >= 5")],
        )
    ],
    outputs={"b": 6, "c": "c(6,s(1))"}, executed={"s": 1, "a": 3, "b": 3, "c": 1},
)  # fmt: skip

_EARLY_EXIT = Story(
    "early-exit", "a structured loop that is left early while a part of it still runs",
    lambda unit: [
        blueprint(
            "exit",
            ["a", Node("up", "loop-controller", {"condition": "true"}, join=ANY), "body:count",
             Node("slow", "nap", {"seconds": 60 * unit}), "last", "end"],
            ["a>up", "up>body?continue", "up>slow?continue", "up>end?break", "body>last", "slow>last", "last>up",
             Edge("body", "end", condition="result.output >= 1")],
        )
    ],
    outputs={"end": "end(1)"}, nodes={"slow": "cancelled", "last": "cancelled"},
    executed={"body": 1, "end": 1, "last": 0},
)  # fmt: skip

_BATCH = Story(
    "batch", "a batch of ten items, four at a time",
    lambda _: [blueprint("batch", _batch(10, concurrency=4), _BATCH_EDGES)],
    outputs={"all": [_item(n) for n in range(10)]}, executed={"all:items": 10, "end": 1},
)  # fmt: skip

_TOLERANT = Story(
    "batch-collect", "a batch of which some items fail and are collected, and one without any item",
    lambda _: [
        blueprint(
            "collect",
            [*_batch(5, items="odd", onItemError="collect"), Node("none", "numbers", {"count": 0}),
             Node("no_scatter", "batch-scatter", {"workerUsesKey": "value", "gatherNodeId": "no"}),
             Node("no", "batch-gather")],
            [*_BATCH_EDGES, "none>no_scatter", "no_scatter>no"],
        )
    ],
    outputs={
        "all": [_item(0), {"error": {"kind": "FatalError", "message": "an odd item"}}, _item(2), _item(3),
                {"error": {"kind": "FatalError", "message": "an odd item"}}],
        "no": [],
    },
    executed={"end": 1},
)  # fmt: skip

_SUBFLOW = Story(
    "subflow", "a run within a run within a run",
    lambda _: [
        blueprint("parent", ["a", Node("sub", "subflow", {"blueprintId": "child"}), "b"], ["a>sub", "sub>b"]),
        blueprint("child", ["c", Node("deep", "subflow", {"blueprintId": "grandchild"})], ["c>deep"]),
        blueprint("grandchild", ["d"], []),
    ],
    outputs={"b": "b(d(c(a(1))))"}, executed={"c": 1, "d": 1, "b": 1},
)  # fmt: skip

_SLEEP = Story(
    "sleep", "a sleep that holds no worker",
    lambda unit: [blueprint("sleep", ["a", Node("s", "sleep", {"duration": _ms(unit)}), "b"], ["a>s", "s>b"])],
    outputs={"b": "b(a(1))"}, executed={"a": 1, "b": 1},
)  # fmt: skip

_TIMED_WAIT = Story(
    "wait-timeout", "a wait that nobody ends, and the route of its timeout",
    lambda unit: [
        blueprint(
            "timed", ["a", Node("w", "wait", {"timeout": _ms(unit)}), "b", "late"], ["a>w", "w>b", "w>late?timeout"]
        )
    ],
    outputs={"late": "late()"}, nodes={"b": "skipped"}, executed={"late": 1},
)  # fmt: skip

_CONTEXT = Story(
    "context", "nodes that write the run's context, and nodes that read it",
    lambda _: [
        blueprint("context", ["a:write", "b:read", "c:write", "d:read"], ["a>b", "b>c", "c>d"]),
    ],
    context={"given": "by the client"}, keys={"key": "c:1", "given": "by the client"},
    outputs={"b": "b[by the client,a:1]", "d": "d[by the client,c:1]"}, executed={"c": 1},
)  # fmt: skip

STORIES: Final = (
    _CHAIN, _LONG, _FAN, _ANY, _AT_LEAST, _CONDITIONS, _FALLBACK, _RETRY, _FAILURE, _FAIL_FAST, _TIMEOUT, _LOOP,
    _EARLY_EXIT, _BATCH, _TOLERANT, _SUBFLOW, _SLEEP, _TIMED_WAIT, _CONTEXT,
)  # fmt: skip
