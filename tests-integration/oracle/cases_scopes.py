"""Cases with cycles (section 4)."""

from __future__ import annotations

from .cases import Row, case, flow

__all__ = ["CASES"]

FAIL: Row = {"fail": {}}
ECHO: Row = {"echo": True}
TWICE: Row = {"actions": ["again", "done"]}


ROUNDS = [
    case(
        "a loop of two",
        flow("a>b, b>a:again, b>c:done", {"a": ECHO, "b": TWICE}),
        "a b -c a b c",
        ok="a b c",
        visits={"a": 2, "b": 2, "c": 1},
        outputs={"a": "b"},
    ),
    case(
        "a loop of one",
        flow("a>a:again, a>b:done", {"a": {"actions": ["again", "again", "done"]}}),
        "a a a b",
        ok="a b",
        visits={"a": 3, "b": 1},
    ),
    case(
        "a loop behind a node",
        flow("s>a, a>b, b>a:again, b>c:done", {"a": ECHO, "b": TWICE}),
        "s a b a b c",
        ok="s a b c",
        visits={"s": 1, "a": 2, "b": 2},
        outputs={"a": "b"},
    ),
    case("a loop that is not taken", flow("s>a:x, a>b, b>a:again, b>c:done"), ok="s", dead="a b c"),
    case(
        "a leaf of the body runs in each round and is waited for",
        flow("a>b, a>l, b>a:again, b>c:done", {"b": TWICE}),
        "a b -a l a b l c",
        ok="a b c l",
        visits={"l": 2, "c": 1},
    ),
    case(
        "a leaf with a fallback is of the body",
        flow("a>b, a>l, b>a:again, b>c:done, f", {"b": TWICE, "l": {"fallback": "f", "fail": {"visits": [1]}}}),
        "a b l -a f@l a l b c",
        ok="a b c l f",
        visits={"l": 2, "f": 1},
        outputs={"l": "l"},
    ),
    case(
        "a loop that leads to another does not belong to it",
        flow(
            "a>a:again, a>b, b>b:again", {"a": {"actions": ["again", None]}, "b": {"actions": ["again", "again", None]}}
        ),
        "a a b b b",
        ok="a b",
        visits={"a": 2, "b": 3},
    ),
    case(
        "a later skip keeps the last visit that ran",
        flow("a>b, b>l:again, b>a:again, b>c:done", {"b": TWICE}),
        ok="a b c l",
        visits={"l": 1, "a": 2},
        outputs={"l": "l"},
    ),
    case(
        "round by a condition",
        flow("a>a?input.n > 5, a>b?input.n <= 5", {"a": {"output": {"n": 4}}}),
        ok="a b",
        visits={"a": 1},
    ),
    case(
        "a plain back edge that competes with an action",
        flow("a>b, b>a, b>c:done", {"b": {"actions": [None, "done"]}}),
        ok="a b c",
        visits={"a": 2, "b": 2, "c": 1},
    ),
    case("a cycle that could never end is not one", flow("a>b, b>a"), "a b -a", ok="a b", visits={"a": 1, "b": 1}),
    case(
        "several back edges open one visit",
        flow("a>b, a>c, b>a:again, c>a:again", {"a": ECHO, "b": TWICE, "c": TWICE}),
        "a b -a c a",
        ok="a b c",
        visits={"a": 2, "b": 2, "c": 2},
        outputs={"a": {"b": "b", "c": "c"}},
    ),
    case(
        "one of several back edges is enough",
        flow("a>b, a>c, b>a:again, c>a:again", {"a": ECHO, "c": TWICE}),
        ok="a b c",
        visits={"a": 2},
        outputs={"a": {"c": "c"}},
    ),
    case(
        "the first back edge of an any header",
        flow("a>b, a>c, b>a:again, c>a:again", {"a": {"join": "any", **ECHO}, "b": TWICE, "c": TWICE}),
        "a c b a",
        visits={"a": 2},
        outputs={"a": "b"},
        reading="the first in the blueprint's order",
    ),
    case(
        "any inside a body starts afresh",
        flow("a>b, a>c, b>j, c>j, j>a:again, j>z:done", {"j": {"join": "any", "losers": "run", "echo": True, **TWICE}}),
        "a b j -a c a c j b z",
        ok="a b c j z",
        visits={"a": 2, "b": 2, "c": 2, "j": 2},
        outputs={"j": "c"},
    ),
    case(
        "a fallback's edge closes the cycle",
        flow(
            "a>b, f>a:again",
            {"a": {"fallback": "f", "fail": {"visits": [1]}, "echo": True}, "b": ECHO, "f": {"actions": ["again"]}},
        ),
        ok="a b f",
        visits={"a": 2, "b": 2, "f": 1},
        outputs={"a": "f", "b": "f"},
    ),
    case(
        "a cycle that only a failure closes",
        flow("a>b, f>a", {"a": {"fallback": "f", "fail": {"visits": [1]}}}),
        "a f@a b a b",
        ok="a b f",
        visits={"a": 2, "b": 2, "f": 1},
        reading="a reference to a fallback is a decision",
    ),
    case(
        "a start node of the body runs once",
        flow(
            "a, b, f>a:again",
            {"a": {"fallback": "f", "fail": {"visits": [1]}}, "b": {"fallback": "f"}, "f": {"actions": ["again"]}},
        ),
        ok="a b f",
        visits={"a": 2, "b": 1, "f": 1},
    ),
    case(
        "a fallback inside is unused again in the next round",
        flow("s>a, a>b, b>a:again, f>c", {"b": TWICE, "a": {"fallback": "f", "fail": {"visits": [1]}}}),
        ok="s a b c f",
        visits={"a": 2, "f": 1, "c": 1},
    ),
]

EXITS = [
    case(
        "an exit from the middle is taken at once",
        flow("s>a, s>x, a>b, b>a:again, a>x", {"b": TWICE, "x": ECHO}),
        "s a x b a b",
        ok="s a b x",
        visits={"a": 2, "x": 1},
        outputs={"x": {"s": "s", "a": "a"}},
    ),
    case(
        "an exit that was never taken is dead at the end",
        flow("s>a, s>x, a>b, b>a:again, b>x:done", {"b": {"actions": ["again", "stop"]}, "x": ECHO}),
        "s a b -x a b x",
        ok="s a b x",
        outputs={"x": {"s": "s"}},
    ),
    case(
        "an exit carries the first visit's value",
        flow("s>a, s>t, a>b, b>a:again, a>x, t>x", {"a": ECHO, "b": TWICE, "x": ECHO}),
        "s a b a b -x t x",
        ok="s t a b x",
        outputs={"a": "b", "x": {"a": "s", "t": "t"}},
    ),
    case(
        "a failure inside ends the cycle",
        flow("s>a, s>x, a>b, b>a:again, b>x:done", {"b": FAIL}),
        "s a b -x",
        status="failed",
        ok="s a",
        failed="b",
        upstream="x",
        visits={"a": 1},
        failures="b",
    ),
    case(
        "a failure in a later round",
        flow("s>a, s>x, a>b, b>a:again, b>x:done", {"b": {"actions": ["again"], "fail": {"visits": [2]}}}),
        status="failed",
        failed="b",
        upstream="x",
        visits={"a": 2, "b": 2},
        failures="b",
    ),
    case(
        "an exit stays live when a later round fails",
        flow("s>a, s>x, a>b, b>a:again, a>x", {"b": {"actions": ["again"], "fail": {"visits": [2]}}}),
        status="failed",
        ok="s a x",
        failed="b",
        failures="b",
    ),
    case(
        "a failure in an earlier round counts",
        flow("a>b, a>c, b>a:again, c>a:again", {"b": {"fail": {"visits": [1]}}, "c": TWICE}),
        status="failed",
        ok="a b c",
        visits={"b": 2},
        failures="b",
        reading="each failed visit is judged, also if a later visit of the node completed",
    ),
    case(
        "no absolution along a back edge",
        flow("a>b, a>c, b>a:again, c>a:again", {"a": {"join": "any"}, "b": FAIL}),
        status="failed",
        ok="a c",
        failed="b",
        failures="b",
    ),
    case(
        "a leaf with an edge to the outside is not of the body",
        flow("s>a, s>x, a>l, a>b, b>a:again, l>x", {"b": TWICE, "l": FAIL, "x": {"join": "any", "losers": "run"}}),
        "s a b a b l",
        ok="s a b x",
        failed="l",
        visits={"l": 1},
        failures="l",
    ),
]

LIMITS = [
    case(
        "the limit of visits",
        flow("a>a:again", {"a": {"actions": ["again"]}}, maxVisits=3),
        status="failed",
        failed="a",
        visits={"a": 3},
        failures="a",
    ),
    case(
        "the limit of visits fails the header's exits",
        flow("s>a, s>x, a>a:again, a>x:done", {"a": {"actions": ["again"]}}, maxVisits=2),
        status="failed",
        failed="a",
        upstream="x",
        visits={"a": 2},
        failures="a",
    ),
    case(
        "the limit of visits leaves other exits dead",
        flow("s>a, s>x, a>b, b>a:again, b>x:done", {"b": {"actions": ["again"]}}, maxVisits=2),
        status="failed",
        failed="a",
        ok="s b x",
        failures="a",
    ),
    case(
        "the limit of visits calls no fallback",
        flow("a>a:again, f", {"a": {"actions": ["again"], "fallback": "f"}}, maxVisits=1),
        status="failed",
        failed="a",
        dead="f",
        failures="a",
    ),
    case("exactly as many visits as allowed", flow("a>a:again", {"a": TWICE}, maxVisits=2), ok="a", visits={"a": 2}),
]

NESTED = [
    case(
        "a loop in a loop",
        flow(
            "a>b, b>b:again, b>c, c>a:more, c>d:done",
            {"b": {"actions": ["again", None]}, "c": {"actions": ["more", "done"]}},
            maxVisits=2,
        ),
        "a b b c a b b c d",
        ok="a b c d",
        visits={"a": 2, "b": 4, "c": 2, "d": 1},
    ),
    case(
        "the inner limit",
        flow("a>b, b>b:again, b>c, c>a:more, c>d:done", {"b": {"actions": ["again"]}}, maxVisits=2),
        status="failed",
        ok="a",
        failed="b",
        visits={"a": 1, "b": 2},
        failures="b",
    ),
    case(
        "a loop that hangs off a loop",
        flow("a>a:again, a>b, b>b:again", {"a": {"actions": ["again", None]}, "b": {"actions": ["again", None]}}),
        ok="a b",
        visits={"a": 2, "b": 2},
    ),
    case(
        "one loop after another",
        flow(
            "s>a, s>x, a>a:again, a>b, b>b:again, b>x",
            {"a": {"actions": ["again", None]}, "b": {"actions": ["again", None]}, "x": ECHO},
        ),
        "s a a b b x",
        ok="s a b x",
        visits={"a": 2, "b": 2, "x": 1},
        outputs={"x": {"s": "s", "b": "b"}},
    ),
    case(
        "the outer round waits for the inner loop",
        flow("a>b, a>c, b>b:again, b>a:never, c>a:again", {"b": TWICE, "c": TWICE}),
        "a c -a b -a b a",
        ok="a b c",
        visits={"a": 2, "b": 4, "c": 2},
    ),
]

HEADERS = [
    case("two entered nodes without a named header", flow("s>a, s>b, a>b, b>a:again"), refused=True),
    case(
        "a named header",
        flow("s>a, s>b, a>b, b>a:again", {"b": {**TWICE, **ECHO}}, cycleEntryPoints=["a"]),
        "s a b a b",
        ok="s a b",
        visits={"a": 2, "b": 2},
        outputs={"b": "a"},
    ),
    case(
        "the named header need not be entered",
        flow("s>a, a>b, b>a:again", {"b": TWICE}, cycleEntryPoints=["b"]),
        "s -b a b -b a b",
        ok="s a b",
        visits={"a": 2, "b": 2},
        reading="a header is started without an edge only in a cycle that nothing enters",
    ),
    case(
        "a cycle beside the header",
        flow("s>a, a>b, b>a:again, b>c, c>b:again", {"b": {"actions": [None]}, "c": {"actions": ["again", None]}}),
        ok="s a b c",
        visits={"a": 1, "b": 2, "c": 2},
    ),
    case(
        "a header that is not on the cycle",
        flow("a>b:x, b", {"b": {"fallback": "a"}}, cycleEntryPoints=["a"]),
        refused=True,
    ),
    case("fallbacks in a circle", flow("a, b", {"a": {"fallback": "b"}, "b": {"fallback": "a"}}), refused=True),
    case("a node as its own fallback", flow("a", {"a": {"fallback": "a"}}), refused=True),
]

MIXED = [
    case(
        "a join outside does not cancel a body with a back edge",
        flow("s>t, t>j, s>a, a>b, b>a:again, b>j:done", {"b": TWICE, "j": {"join": "any", "echo": True}}),
        "s t j a b a b",
        ok="s t a b j",
        visits={"a": 2, "b": 2},
        outputs={"j": "t"},
    ),
    case(
        "a node of the body is a loser",
        flow(
            "s>t, t>j, s>a, a>b, b>a:again, a>l, l>j, f>a:never",
            {"b": TWICE, "l": {"fallback": "f"}, "j": {"join": "any", "echo": True}},
        ),
        "s t a -l b a -l b j",
        ok="s t a b j",
        dead="f",
        cancelled="l",
        visits={"a": 2},
        outputs={"j": "t"},
        reading="what a join outside needs no more, it needs in no later round",
    ),
    case(
        "cancel in a later round",
        flow("a>b, b>a:again, b>c:done", {"b": TWICE}),
        "a b cancel a -b",
        status="cancelled",
        ok="a b",
        cancelled="c",
        visits={"a": 2, "b": 1},
    ),
]

CASES = [*ROUNDS, *EXITS, *LIMITS, *NESTED, *HEADERS, *MIXED]
