"""Cases of loop controllers and early exits (section 9)."""

from __future__ import annotations

from .cases import Row, case, flow

__all__ = ["CASES"]

FAIL: Row = {"fail": {}}
ECHO: Row = {"echo": True}
COUNT: Row = {"each": [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}]}
N4: Row = {"output": {"n": 4}}
ZERO = {"n": 0}


def loop(condition: str, **more: object) -> Row:
    return {"uses": "loop-controller", "condition": condition, **more}


def does(*actions: str | None) -> Row:
    return {"actions": list(actions)}


SIMPLE = "s>L, L>b:continue, b>L, L>z:break"
EARLY = "L>b:continue, L>c:continue, b>L, c>L, L>z:break, b>e:stop, z>e"
EITHER: Row = {"join": "any", "losers": "run", "echo": True}

DECIDING = [
    case(
        "a loop while the condition holds",
        flow(SIMPLE, {"s": {"output": ZERO}, "L": loop("input.n < 3"), "b": COUNT, "z": ECHO}),
        "s -L b -z b b z",
        ok="s L b z",
        visits={"L": 4, "b": 3, "z": 1},
        outputs={"L": {"n": 3}, "z": {"n": 3}},
    ),
    case(
        "a loop that is not begun",
        flow(SIMPLE, {"s": N4, "L": loop("input.n < 3"), "z": ECHO}),
        "s -b z",
        ok="s L z",
        dead="b",
        outputs={"z": {"n": 4}},
        visits={"L": 1},
    ),
    case(
        "a controller starts the run and its input is the run's",
        flow("L>b:continue, b>L, L>z:break", {"L": loop("input.n < 2"), "b": COUNT}),
        "b b z",
        run_input=ZERO,
        ok="L b z",
        visits={"L": 3, "b": 2},
        outputs={"L": {"n": 2}},
    ),
    case(
        "the condition reads other nodes",
        flow(SIMPLE, {"L": loop("b.n > 1"), "b": COUNT}),
        "s -b z",
        ok="s L z",
        dead="b",
    ),
    case(
        "the condition reads the context",
        flow(SIMPLE, {"L": loop("K.n > 5"), "b": COUNT}),
        "patch:K=6 s b patch:K=5 b z",
        ok="s L b z",
        visits={"L": 3, "b": 2},
        context={"K": {"n": 5}},
    ),
    case(
        "an output stands before a context key of the same name",
        flow(SIMPLE, {"s": {"output": {"n": 9}}, "L": loop("s.n > 5")}),
        "patch:s=1 s b no:retry cancel b",
        status="cancelled",
        ok="s b",
        visits={"L": 2, "b": 2},
    ),
    case(
        "inputs of a controller",
        flow(SIMPLE, {"L": loop("input.n < 3", inputs=["b", "s"]), "s": {"output": ZERO}, "b": COUNT}),
        "s b b b z",
        ok="s L b z",
        visits={"L": 4},
        outputs={"L": {"n": 3}},
    ),
    case(
        "the condition of a loop cannot be evaluated",
        flow(SIMPLE, {"L": loop("1 / 0 == 1")}),
        status="failed",
        ok="s",
        failed="L",
        upstream="b z",
        failures="L",
        visits={"L": 1},
    ),
    case(
        "a condition that cannot be evaluated has no fallback",
        flow("s>L, L>b:continue, b>L, L>z:break, f", {"L": loop("1 / 0 == 1", fallback="f", tries=3)}),
        status="failed",
        failed="L",
        dead="f",
        failures="L",
    ),
    case(
        "a condition that cannot be evaluated in a later visit",
        flow(SIMPLE, {"s": {"output": ZERO}, "L": loop("input.n % 2 == 0"), "b": {"each": [{"n": 2}, "none"]}}),
        "s b b -z",
        status="failed",
        failed="L",
        ok="b",
        upstream="z",
        visits={"L": 3},
        failures="L",
    ),
    case(
        "each visit of a controller counts",
        flow(SIMPLE, {"s": {"output": ZERO}, "L": loop("input.n < 9"), "b": COUNT}, maxVisits=3),
        "s b b b -z",
        status="failed",
        failed="L",
        ok="b",
        visits={"L": 3, "b": 3},
        failures="L",
    ),
    case(
        "as many visits as there may be",
        flow(SIMPLE, {"s": {"output": ZERO}, "L": loop("input.n < 2"), "b": COUNT}, maxVisits=3),
        "s b b z",
        ok="L b z",
        visits={"L": 3, "b": 2},
    ),
    case(
        "the body fails and the loop ends",
        flow(SIMPLE, {"s": {"output": ZERO}, "L": loop("input.n < 3"), "b": {**COUNT, "fail": {"visits": [2]}}}),
        "s b b -z",
        status="failed",
        ok="L",
        failed="b",
        dead="z",
        failures="b",
        visits={"b": 2, "L": 2},
    ),
    case(
        "a controller in no loop decides once",
        flow("s>L, L>a:continue, L>b:break", {"s": N4, "L": loop("input.n > 3")}),
        ok="s L a",
        dead="b",
    ),
    case(
        "a controller without a condition runs as a function",
        flow("L>b:continue, b>L, L>z:break", {"L": {"uses": "loop-controller", **does("continue", "break")}}),
        "L b L z",
        ok="L b z",
        visits={"L": 2, "b": 1},
    ),
    case(
        "two controllers in a row decide in one step",
        flow(
            "s>L, L>b:continue, b>L, L>M:break, M>c:continue, c>M, M>z:break",
            {
                "s": N4,
                "L": loop("input.n < 3"),
                "M": loop("input.n < 3"),
            },
        ),
        "s z",
        ok="s L M z",
        dead="b c",
    ),
    case(
        "a controlled loop in another",
        flow(
            "L>M:continue, M>b:continue, b>M, M>c:break, c>L, L>z:break",
            {
                "L": loop("input.n < 2"),
                "M": loop("input.n % 2 == 0"),
                "b": {"each": [{"n": 2}, {"n": 1}, {"n": 1}]},
                "c": {"each": [{"n": 0}, {"n": 2}]},
            },
        ),
        "b b c b c z",
        run_input=ZERO,
        ok="L M b c z",
        visits={"L": 3, "M": 5, "b": 3, "c": 2},
    ),
    case(
        "a leaf of the body is of the loop, what follows the controller is not",
        flow("L>b:continue, b>L, b>l, L>z:break, z>y", {"L": loop("input.n < 2"), "b": COUNT}),
        "b -b l b l z y",
        run_input=ZERO,
        ok="L b l z y",
        visits={"l": 2, "z": 1},
    ),
    case(
        "an any header with a controller takes the first back edge",
        flow(
            "s>L, L>b:continue, L>c:continue, b>L, c>L, L>z:break",
            {
                "s": {"output": ZERO},
                "L": loop("input.n < 1", join="any"),
                "b": {"output": {"n": 5}},
                "c": N4,
            },
        ),
        "s c b z",
        ok="L z",
        outputs={"L": {"n": 5}},
        visits={"L": 2},
        reading="the first in the blueprint's order",
    ),
    case(
        "a controller whose join has fired has no losers",
        flow("a>L, b>L, L>z:break", {"L": loop("input.n == 0", join="any")}),
        "a z b",
        ok="a b L z",
    ),
    case(
        "several back edges give a controller a dict",
        flow(
            "s>L, L>b:continue, L>c:continue, b>L, c>L, L>z:break",
            {
                "s": {"output": ZERO},
                "L": loop("input.n == 0"),
                "b": N4,
                "c": N4,
            },
        ),
        "s c b z",
        ok="L z",
        outputs={"L": {"b": {"n": 4}, "c": {"n": 4}}},
        visits={"L": 2},
    ),
    case(
        "edges with a condition first, whatever their action",
        flow(
            "s>L, L>b:continue, b>L, L>x?input.n == 2, L>z:break",
            {
                "s": {"output": ZERO},
                "L": loop("input.n < 3"),
                "b": COUNT,
            },
        ),
        "s b b x",
        ok="L b x",
        dead="z",
        visits={"L": 3, "b": 2},
    ),
    case(
        "of edges with conditions all that are true",
        flow(
            "s>L, L>x?input.n > 3, L>y:never?input.n > 2, L>z:break, L>w?input.n > 5",
            {
                "s": N4,
                "L": loop("input.n < 3"),
            },
        ),
        ok="L x y",
        dead="z w",
    ),
    case(
        "a condition of an edge that cannot be evaluated fails the controller",
        flow("s>L, L>x?1 / 0 == 1, L>z:break", {"s": N4, "L": loop("input.n < 3")}),
        status="failed",
        failed="L",
        upstream="x z",
        failures="L",
    ),
    case(
        "the controller that is entered is the header",
        flow(
            "s>L, M>c:continue, c>M, M>L:break, L>M:continue, L>z:break",
            {
                "s": {"output": ZERO},
                "L": loop("input.n < 2"),
                "M": loop("input.n < 2"),
                "c": COUNT,
            },
        ),
        "s c c z",
        ok="s L M c z",
        visits={"L": 2, "M": 3, "c": 2},
    ),
    case(
        "a loop that is entered at its body",
        flow("s>b, b>L, L>b:continue, L>z:break", {"L": loop("input.n < 3"), "b": COUNT}),
        "s b b b z",
        ok="s L b z",
        visits={"L": 3, "b": 3},
        reading="the header is what is entered",
    ),
    case(
        "a loop in a plain cycle",
        flow(
            "s>a, a>L, L>b:continue, b>L, L>c:break, c>a:again, c>z:done",
            {
                "a": {"output": ZERO},
                "L": loop("input.n == 0"),
                "b": COUNT,
                "c": does("again", "done"),
            },
        ),
        "s a b c a b c z",
        ok="s a L b c z",
        visits={"a": 2, "L": 4, "b": 2, "c": 2},
        reading="the header is what is entered",
    ),
    case(
        "a cancelled loop decides no more",
        flow(SIMPLE, {"s": {"output": ZERO}, "L": loop("input.n < 3"), "b": COUNT}),
        "s cancel b",
        status="cancelled",
        ok="s b",
        cancelled="z",
        visits={"b": 1, "L": 1},
    ),
]

EXITS = [
    case(
        "an early exit by an action drains the rest of the body",
        flow(EARLY, {"L": loop("input.n < 9"), "b": {**COUNT, **does("stop")}, "e": EITHER}),
        "b -z c -b e",
        run_input=ZERO,
        ok="L b c e",
        dead="z",
        visits={"L": 1, "b": 1, "c": 1},
        outputs={"e": {"n": 1}},
    ),
    case(
        "an early exit in a later round",
        flow(EARLY, {"L": loop("true"), "b": {**COUNT, **does(None, "stop")}, "e": EITHER}),
        "b c c b e",
        ok="L b c e",
        dead="z",
        visits={"L": 2, "b": 2, "c": 2},
        outputs={"e": {"n": 2}},
    ),
    case(
        "no next round though a back edge is LIVE",
        flow(EARLY, {"L": loop("true"), "b": {**COUNT, **does("stop")}, "e": EITHER}),
        "c b e",
        ok="L b c e",
        dead="z",
        visits={"L": 1, "c": 1},
    ),
    case(
        "an early exit and a LIVE back edge by one node",
        flow("L>b:continue, b>L, L>z:break, b>e?input.n > 1, z>e", {"L": loop("true"), "b": COUNT, "e": EITHER}),
        "b b e -b",
        ok="L b e",
        dead="z",
        visits={"L": 2, "b": 2},
    ),
    case(
        "no next round though a back edge is LIVE and another node drains",
        flow(
            "L>b:continue, L>c:continue, b>L, c>L, L>z:break, b>e?input.n > 0, z>e",
            {
                "L": loop("true"),
                "b": COUNT,
                "e": EITHER,
            },
        ),
        "b e c -b",
        ok="L b c e",
        dead="z",
        visits={"L": 1, "b": 1, "c": 1},
    ),
    case(
        "an early exit into another cycle, which goes round meanwhile",
        flow(
            "a>L, L>d:continue, L>b:continue, d>L, b>L, L>c:break, b>c?input.n > 0, c>c:again",
            {
                "L": loop("true"),
                "b": COUNT,
                "c": {**EITHER, **does("again", None)},
            },
        ),
        "a b c c d -b",
        ok="a L b c d",
        visits={"L": 1, "b": 1, "c": 2, "d": 1},
    ),
    case(
        "an early exit by a condition of the controller",
        flow("L>b:continue, b>L, L>z:break, L>e?input.n > 1, z>e", {"L": loop("true"), "b": COUNT, "e": EITHER}),
        "b b e",
        run_input=ZERO,
        ok="L b e",
        dead="z",
        visits={"L": 3, "b": 2},
    ),
    case(
        "a plain edge out of a loop is no early exit",
        flow("L>b:continue, b>L, b>e, L>z:break, z>e", {"L": loop("input.n < 2"), "b": COUNT, "e": EITHER}),
        "b e b z",
        run_input=ZERO,
        ok="L b z e",
        visits={"b": 2, "e": 1},
        outputs={"e": {"n": 1}},
    ),
    case(
        "pending nodes of the body are cancelled by an early exit",
        flow(
            "L>b:continue, b>c, c>L, L>z:break, b>e:stop, z>e",
            {
                "L": loop("true"),
                "b": does("stop"),
                "e": EITHER,
            },
        ),
        "b e",
        ok="L b e",
        dead="c z",
    ),
    case(
        "what waits for another is cancelled by an early exit",
        flow(
            "L>b:continue, L>c:continue, b>d, c>d, d>L, L>z:break, b>e:stop, z>e",
            {
                "L": loop("true"),
                "b": does("stop"),
                "e": EITHER,
            },
        ),
        "b -d e c -d",
        ok="L b c e",
        cancelled="d",
        dead="z",
    ),
    case(
        "a failure while an early exit drains is listed",
        flow(EARLY, {"L": loop("true"), "b": does("stop"), "c": FAIL, "e": EITHER}),
        "b e c",
        status="failed",
        ok="L b e",
        failed="c",
        failures="c",
    ),
    case(
        "no further attempt and no fallback in a loop that was left",
        flow(
            EARLY + ", f",
            {
                "L": loop("true"),
                "b": does("stop"),
                "c": {"fail": {}, "tries": 3, "fallback": "f"},
                "e": EITHER,
            },
        ),
        "b e c -c",
        status="failed",
        ok="L b e",
        failed="c",
        dead="f",
        failures="c",
    ),
    case(
        "a draining visit of a left loop is abandoned",
        flow(EARLY, {"L": loop("true"), "b": does("stop"), "e": EITHER}),
        "b ~c e",
        ok="L b e",
        cancelled="c",
        dead="z",
    ),
    case(
        "a fallback with its own edges is cancelled by an early exit",
        flow(
            "L>b:continue, L>c:continue, b>L, c>L, f>g, g>L, L>z:break, b>e:stop, z>e",
            {
                "L": loop("true"),
                "b": does("stop"),
                "c": {"fallback": "f"},
                "e": EITHER,
            },
        ),
        "b c e",
        ok="L b c e",
        dead="f",
        cancelled="g",
        reading="a fallback without an ordinary visit is what its callers made of it",
    ),
    case(
        "an edge of a fallback leaves a loop early",
        flow(
            "L>b:continue, L>c:continue, b>L, c>L, L>z:break, f>e:stop, z>e",
            {
                "L": loop("true"),
                "b": {"fail": {}, "fallback": "f"},
                "f": does("stop"),
                "e": EITHER,
            },
        ),
        "b f@b e c -b",
        ok="L b c f e",
        visits={"L": 1},
    ),
    case(
        "an exit out of two loops ends both",
        flow(
            "L>M:continue, M>b:continue, b>M, M>c:break, c>L, L>z:break, b>e:stop, z>e",
            {
                "L": loop("true"),
                "M": loop("true"),
                "b": does(None, "stop"),
                "e": EITHER,
            },
        ),
        "b b e",
        ok="L M b e",
        dead="z",
        visits={"L": 1, "M": 2},
    ),
    case(
        "an exit out of the inner loop leaves the outer one going round",
        flow(
            "L>M:continue, M>b:continue, M>d:continue, d>M, b>M, M>c:break, b>c:stop, c>L, L>z:break",
            {
                "L": loop("input.n < 2"),
                "M": loop("true"),
                "b": does("stop"),
                "c": {**COUNT, "join": "any", "losers": "run"},
            },
        ),
        "b c d b d c z",
        run_input=ZERO,
        ok="L M b c d z",
        visits={"L": 3, "M": 2, "b": 2, "d": 2, "c": 2},
    ),
    case(
        "plain cycles are never drained",
        flow(
            "a>b, a>c, b>a:again, c>a:again, b>e:stop, a>z:never, z>e",
            {"b": does("stop"), "c": does("again", None), "e": EITHER},
        ),
        "a b e c a b c",
        ok="a b c e",
        visits={"a": 2, "c": 2},
    ),
    case(
        "an exit out of a loop in a plain cycle drains the loop only",
        flow(
            "s>a, a>L, L>b:continue, L>d:continue, b>L, d>L, L>c:break, b>c:stop, c>a:again, c>z:done",
            {
                "L": loop("true"),
                "b": does("stop"),
                "c": {"join": "any", "losers": "run", **does("again", "done")},
            },
        ),
        "s a b d c a b d c z",
        ok="a L b d c z",
        visits={"a": 2, "L": 2, "b": 2, "c": 2},
    ),
    case(
        "a loop is left while a node before its body still runs",
        flow(
            "s>L, x>d, L>b:continue, b>d, d>L, L>z:break, b>e:stop, z>e",
            {
                "L": loop("true"),
                "b": does("stop"),
                "e": EITHER,
            },
        ),
        "s b e x",
        ok="s L b e x",
        cancelled="d",
        reading="what only leads to what an early exit cancelled is a loser",
    ),
    case(
        "failing fast in a loop",
        flow(SIMPLE, {"s": {"output": ZERO}, "L": loop("true"), "b": FAIL}, failure="fail-fast"),
        "s b",
        status="failed",
        failed="b",
        cancelled="z",
        failures="b",
    ),
]

CASES = [*DECIDING, *EXITS]
