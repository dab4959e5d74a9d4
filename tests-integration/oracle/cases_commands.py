"""Cases of commands (section 13)."""

from __future__ import annotations

from .cases import Row, case, flow

__all__ = ["CASES"]

FAIL: Row = {"fail": {}}
ONCE: Row = {"fail": {"visits": [1]}}
ECHO: Row = {"echo": True}
ANY: Row = {"join": "any", "echo": True}
RUN: Row = {"join": "any", "losers": "run", "echo": True}
WAIT: Row = {"uses": "wait"}
SCATTER: Row = {
    "uses": "batch-scatter", "gatherNodeId": "w_gather", "workerUsesKey": "behave", "workerParams": {"echo": True},
}  # fmt: skip
TWICE: Row = {"actions": ["again", "done"]}


def loop(condition: str) -> Row:
    return {"uses": "loop-controller", "condition": condition}


PAUSED = [
    case("what runs may finish", flow("a>b"), "pause is:paused a -b is:paused unpause is:running b", ok="a b"),
    case("a pause of a paused run", flow("a>b"), "pause no:pause unpause no:unpause a b", ok="a b"),
    case(
        "timers and signals count while a run is paused",
        flow("s>b, w>c", {"s": {"uses": "sleep", "duration": "1m"}, "w": WAIT}),
        "pause tick signal:w -b -c unpause b c",
        ok="s w b c",
    ),
    case(
        "a loop is decided while a run is paused",
        flow("s>L, L>b:continue, b>L, L>z:break", {"s": {"output": {"n": 3}}, "L": loop("input.n < 3")}),
        "pause s -z unpause z",
        ok="s L z",
        dead="b",
    ),
    case(
        "no next attempt while a run is paused",
        flow("a>b", {"a": {"tries": 2, "fail": {"attempts": 1}}}),
        "pause a -a unpause a b",
        ok="a b",
    ),
    case(
        "no fallback while a run is paused",
        flow("a>b, f", {"a": {"fail": {}, "fallback": "f"}}),
        "pause a -a unpause f@a b",
        ok="a f b",
    ),
    case(
        "items enter the window of a paused run, and are not handed out",
        flow(
            "w_scatter>w_gather",
            {
                "w_scatter": SCATTER | {"concurrency": 1},
                "w_gather": {"uses": "batch-gather"},
            },
        ),
        "w_scatter pause w[0] -w[1] unpause w[1]",
        run_input=["x", "y"],
        ok="w w_gather",
    ),
    case("a run ends while it is paused", flow("a"), "pause a no:unpause", ok="a"),
    case(
        "a paused run is cancelled",
        flow("a>b, c"),
        "pause a cancel is:running c ~b",
        status="cancelled",
        ok="a c",
        cancelled="b",
        reading="what was not handed out drains",
    ),
    case(
        "what is not handed out is a loser",
        flow("a>b, b>j, c>j", {"j": RUN | {"losers": "cancel"}}),
        "pause a c unpause j ~b",
        ok="a c j",
        cancelled="b",
        reading="what was not handed out drains",
    ),
    case("a run that has ended is not paused", flow("a"), "a no:pause", ok="a"),
]

PATCHED = [
    case(
        "a patch is seen by conditions",
        flow("a>b?K.n > 5, a>c?K.n > 3"),
        "patch:K=4 a c",
        ok="a c",
        dead="b",
        context={"K": {"n": 4}},
    ),
    case("a key is deleted", flow("a>b?K.n > 3"), "patch:K=4 patch:K a", ok="a", dead="b", context={"K": None}),
    case(
        "a patch is seen by inputs",
        flow("a>b", {"b": {**ECHO, "inputs": {"k": "K.n", "a": "a"}}}),
        "a patch:K=4 b",
        ok="b",
        outputs={"b": {"k": 4, "a": "a"}},
    ),
    case("a run that has ended is not patched", flow("a"), "a no:patch:K=4", ok="a", context={"K": None}),
]

MARKED = [
    case(
        "a pending node",
        flow("a>b, b>c", {"c": ECHO}),
        "mark:b c a -b",
        ok="a b c",
        outputs={"c": "marked"},
        visits={"b": 1},
    ),
    case("a running node", flow("a>b", {"b": ECHO}), "mark:a -a b", ok="a b", outputs={"b": "marked"}, visits={"a": 1}),
    case("with an action", flow("a>b:yes, a>c"), "mark:a:yes b", ok="a b", dead="c"),
    case("a settled node", flow("a>b"), "a no:mark:a b no:mark:b", ok="a b"),
    case("a wait", flow("w>b", {"w": WAIT}), "mark:w signal:w->late b", ok="w b"),
    case(
        "a node that waits for its next attempt",
        flow("a>b", {"a": {"tries": 2, "delay": 9, "fail": {}}}),
        "a mark:a b",
        ok="a b",
        visits={"a": 1},
    ),
    case(
        "a node whose fallback runs",
        flow("a>b, f", {"a": {"fail": {}, "fallback": "f"}, "b": ECHO}),
        "a mark:a -f b",
        ok="a b",
        dead="f",
        outputs={"b": "marked"},
        reading="the fallback's visit comes to nothing",
    ),
    case(
        "a node whose fallback runs, as it did for another",
        flow("a>b, c>d, f", {"a": {"fail": {}, "fallback": "f"}, "c": {"fail": {}, "fallback": "f"}, "d": ECHO}),
        "a f@a b c mark:c -f d",
        ok="a b c d f",
        outputs={"c": "marked", "d": "marked"},
        reading="the visit is the node's own, whatever the number of the fallback's",
    ),
    case("what is only a fallback", flow("a>b, f", {"a": {"fallback": "f"}}), "no:mark:f a b", ok="a b", dead="f"),
    case("a loop's controller", flow("s>L, L>b:continue, L>z:break", {"L": loop("true")}), "no:mark:L s b", ok="s L b"),
    case(
        "a batch",
        flow(
            "a>w_scatter, w_scatter>w_gather",
            {
                "a": {"output": ["x"]},
                "w_scatter": SCATTER,
                "w_gather": {"uses": "batch-gather"},
            },
        ),
        "no:mark:w_scatter no:mark:w a w_scatter no:mark:w w[0] mark:w_gather",
        ok="w w_gather",
        outputs={"w_gather": "marked"},
    ),
    case(
        "a subflow with its child",
        flow("a>s, s>b", {"s": {"uses": "subflow", "blueprintId": "c"}}),
        "a start:s no:mark:s done:s b",
        ok="s b",
    ),
    case("a pending subflow", flow("a>s, s>b", {"s": {"uses": "subflow", "blueprintId": "c"}}), "mark:s b a", ok="s b"),
    case(
        "marking is no firing of a join",
        flow("a>j, b>j, j>c", {"j": ANY}),
        "mark:j a -j b c",
        ok="a b j c",
        reading="its predecessors are no losers",
    ),
    case(
        "a node of the body is marked before its header runs",
        flow("a>b, b>a:again, b>c:done", {"a": ECHO, "b": {**TWICE, "actions": ["again"]}}),
        "a b mark:b:done a c",
        visits={"a": 2, "b": 2},
        ok="a b c",
        outputs={"a": "b"},
    ),
    case(
        "a header that is marked counts",
        flow("a>b, b>a:again, b>c:done, s>a", {"b": {"actions": ["again"]}}, maxVisits=2),
        "mark:a b a b -a s",
        status="failed",
        visits={"a": 2, "b": 2},
        failed="a",
        failures="a",
    ),
    case(
        "a marked node in a loop",
        flow("a>b, b>a:again, b>c:done", {"b": TWICE}),
        "mark:b:again a a b",
        visits={"a": 2, "b": 2},
        ok="a b c",
    ),
    case("a draining node", flow("a>b"), "cancel no:mark:a a", status="cancelled", ok="a", cancelled="b"),
    case("a run that has ended", flow("a>b:x"), "a no:mark:b", ok="a", dead="b"),
]

RETRIED = [
    case(
        "what failed starts again",
        flow("a>b, b>c", {"b": ONCE}),
        "a b retry -a b c",
        ok="a b c",
        visits={"a": 1, "b": 2, "c": 1},
    ),
    case(
        "it fails again",
        flow("a>b", {"b": FAIL}),
        "a b retry b retry b",
        status="failed",
        failed="b",
        failures="b",
        visits={"b": 3},
    ),
    case("a run that completed", flow("a"), "a no:retry no:retry:a", ok="a"),
    case("a run that has not ended", flow("a>b", {"a": FAIL}), "no:retry a no:mark:b", status="failed", failures="a"),
    case(
        "other branches stay",
        flow("s>a, s>b, a>j, b>j", {"a": ONCE, "j": ECHO}),
        "s a b retry -b a j",
        ok="s a b j",
        outputs={"j": {"a": "a", "b": "b"}},
        visits={"b": 1},
    ),
    case(
        "one of two that failed",
        flow("a>c, b>d", {"a": ONCE, "b": FAIL}),
        "a b retry:a a c",
        status="failed",
        ok="a c",
        failed="b",
        upstream="d",
        failures="b",
    ),
    case("all that failed", flow("a>c, b>c", {"a": ONCE, "b": ONCE}), "a b retry a b c", ok="a b c"),
    case(
        "a failure that is absolved stays",
        flow("a>j, b>j, c>d", {"a": FAIL, "c": ONCE, "j": RUN}),
        "a b j c retry c d -a",
        ok="b j c d",
        failed="a",
        failures="a",
    ),
    case(
        "from a node that completed",
        flow("a>b, b>c", {"c": ONCE}),
        "a b c retry:a a b c",
        ok="a b c",
        visits={"a": 2, "b": 2, "c": 2},
    ),
    case(
        "one named node leads to another",
        flow("a>b, b>c", {"c": ONCE}),
        "a b c retry:a+b -b a b c",
        ok="a b c",
        visits={"a": 2, "b": 2},
        reading="it waits for the other",
    ),
    case(
        "another way is taken",
        flow("a>b:x, a>c:y, c>d", {"a": {"actions": ["y", "x"]}, "d": FAIL}),
        "a c d retry:a a b",
        ok="a b",
        dead="c d",
        visits={"a": 2},
        reading="what was reset is forgotten",
    ),
    case(
        "what was cancelled",
        flow("a>b, b>c"),
        "cancel a retry b c",
        ok="a b c",
        visits={"a": 1},
        reading="what completed after the run was stopped marks its edges now",
    ),
    case(
        "the action of what completed late",
        flow("a>b:x, a>c", {"a": {"actions": ["x"]}}),
        "cancel a retry b",
        ok="a b",
        dead="c",
        reading="what completed after the run was stopped marks its edges now",
    ),
    case("what was abandoned", flow("a>b"), "cancel ~a retry a b", ok="a b", visits={"a": 2}),
    case(
        "a sleep that was cancelled",
        flow("s>b", {"s": {"uses": "sleep", "duration": "1m"}}),
        "cancel retry -b tick b",
        ok="s b",
        visits={"s": 2},
    ),
    case(
        "a wait that timed out",
        flow("w>b", {"w": {"uses": "wait", "timeout": "1m"}}),
        "tick retry signal:w#1->late signal:w b",
        ok="w b",
        visits={"w": 2},
    ),
    case(
        "after failing fast",
        flow("a>b, c>d", {"a": ONCE}, failure="fail-fast"),
        "a c retry a b d",
        ok="a b c d",
        visits={"a": 2, "c": 1},
    ),
    case(
        "a fallback that failed too",
        flow("a>b, f>g", {"a": {"fail": {"visits": [1]}, "fallback": "f"}, "f": FAIL}),
        "a f@a retry a b",
        ok="a b",
        dead="g",
        reading="the fallback's edges are undecided again",
    ),
    case(
        "a fallback that helps at last",
        flow("a>b, f>g", {"a": {"fail": {}, "fallback": "f"}, "f": {"fail": {"visits": [1]}}}),
        "a f@a retry a f@a b g",
        ok="a b f g",
    ),
    case(
        "a body that failed goes round as before",
        flow(
            "s>L, L>b:continue, b>L, L>z:break",
            {
                "s": {"output": {"n": 0}},
                "L": loop("input.n < 3"),
                "b": {"each": [{"n": 1}, {"n": 1}, {"n": 2}, {"n": 3}], "fail": {"visits": [2]}},
            },
        ),
        "s b b retry -s b b z",
        ok="s L b z",
        visits={"L": 4, "b": 4},
        reading="the scope is open again, and what its edges that were not chosen led to",
    ),
    case(
        "a header that failed in a later round",
        flow("s>a, a>b, b>a:again, b>c:done", {"a": {"fail": {"visits": [2]}, "echo": True}, "b": TWICE}),
        "s a b a retry a b c",
        ok="a b c",
        visits={"s": 1, "a": 3, "b": 2},
        outputs={"a": "b"},
    ),
    case(
        "a header that may not go round again",
        flow(
            "s>L, L>b:continue, b>L, L>z:break",
            {
                "s": {"output": {"n": 0}},
                "L": loop("input.n < 3"),
                "b": {"each": [{"n": 1}, {"n": 2}, {"n": 3}]},
            },
            maxVisits=2,
        ),
        "s b b retry b -z",
        status="failed",
        failed="L",
        visits={"L": 3, "b": 3},
        failures="L",
        reading="each visit in one opening counts, also those of earlier epochs",
    ),
    case(
        "before a loop",
        flow(
            "s>L, L>b:continue, b>L, L>z:break, z>y",
            {
                "s": {"output": {"n": 0}},
                "L": loop("input.n < 2"),
                "b": {"each": [{"n": 1}, {"n": 2}]},
                "y": ONCE,
            },
        ),
        "s b b z y retry:s s b b z y",
        ok="s L b z y",
        visits={"s": 2, "L": 6, "b": 4, "y": 2},
    ),
    case(
        "a batch that failed",
        flow(
            "w_scatter>w_gather",
            {
                "w_scatter": SCATTER | {"workerParams": {"echo": True, "fail": {"items": ["y"], "visits": [1]}}},
                "w_gather": {"uses": "batch-gather"},
            },
        ),
        "w_scatter w[0] w[1] retry -w_scatter -w[0] w[1] w_gather",
        run_input=["x", "y"],
        ok="w w_gather",
        visits={"w": 2, "w_scatter": 1},
        outputs={"w_gather": ["x", "y"]},
    ),
    case(
        "a subflow that failed",
        flow("s>b", {"s": {"uses": "subflow", "blueprintId": "c", "output": "below"}}),
        "start:s fail:s retry start:s done:s b",
        ok="s b",
        visits={"s": 2},
    ),
    case(
        "a join that had fired keeps its winner",
        flow("a>j, b>j, j>c", {"j": {**RUN, "fail": {"visits": [1]}}}),
        "b j a retry j c",
        ok="a b j c",
        outputs={"j": "b"},
        visits={"j": 2},
    ),
    case(
        "a node whose edges could not be judged, in a cycle that nothing enters",
        flow("a>b, b>a:again, b>b?1 / 0 == 1"),
        "a b retry b",
        status="failed",
        ok="a",
        failed="b",
        visits={"a": 1, "b": 2},
        failures="b",
    ),
    case(
        "an absolved failure is not tried again with its join",
        flow("a>d, b>d", {"a": FAIL, "d": {**RUN, "fail": {"visits": [1]}}}),
        "a b d retry -a d",
        failed="a",
        ok="b d",
        failures="a",
    ),
    case(
        "the way that a loop did not take is not taken by a retry",
        flow("L>b:continue, b>L, L>z:break", {"L": loop("input.n < 1"), "b": {"output": {"n": 1}}}),
        "cancel ~b retry -z b z",
        run_input={"n": 0},
        ok="L b z",
        visits={"b": 2, "z": 1},
    ),
    case(
        "a loop that was left early stays left",
        flow(
            "L>b:continue, L>c:continue, b>L, c>L, L>z:break, b>e:stop, z>e",
            {"L": loop("true"), "b": {"actions": ["stop"]}, "e": RUN},
        ),
        "b cancel ~c ~e retry -b -c -z e",
        ok="L b e",
        cancelled="c",
        dead="z",
    ),
    case(
        "what comes before a batch was abandoned",
        flow(
            "a>w_scatter, w_scatter>w_gather",
            {"a": {"output": ["x"]}, "w_scatter": SCATTER, "w_gather": {"uses": "batch-gather"}},
        ),
        "cancel ~a retry a w_scatter w[0] w_gather",
        ok="a w w_gather",
        outputs={"w_gather": ["x"]},
    ),
    case(
        "a scatter that completed after the stop",
        flow(
            "a>w_scatter, w_scatter>w_gather",
            {"a": {"output": ["x"]}, "w_scatter": SCATTER, "w_gather": {"uses": "batch-gather"}},
        ),
        "a cancel w_scatter retry -w_scatter w[0] w_gather",
        ok="a w w_gather",
        outputs={"w_gather": ["x"]},
        reading="what completed after the run was stopped marks its edges now",
    ),
    case(
        "a paused run that ended is not paused in its next epoch",
        flow("a>b", {"a": ONCE}),
        "pause a retry a b",
        ok="a b",
    ),
]


def undone(**more: object) -> Row:
    return {"compensate": "u", **more}


UNDONE = [
    case(
        "everything, in the reverse order",
        flow("a>b, b>c, u, v", {"a": undone(), "b": {"compensate": "v"}, "u": ECHO, "v": ECHO}),
        "a b rollback -v c v@b u@a",
        status="cancelled",
        ok="a b c",
        dead="u v",
        reading="the status of what undoes is its own",
    ),
    case(
        "what completes meanwhile is undone too",
        flow("a>b, b>c, d, u", {"a": undone(), "b": undone(), "u": ECHO}),
        "d a rollback b u@b u@a",
        status="cancelled",
        ok="a b d",
        cancelled="c",
    ),
    case(
        "to a node",
        flow("a>b, b>c, c>d, u", {"a": undone(), "b": undone(), "c": undone(), "u": ECHO}),
        "a b c rollback:b d u@c u@b -a b c d",
        ok="a b c d",
        visits={"a": 1, "b": 2, "c": 2, "d": 2},
    ),
    case(
        "a completed run to a node",
        flow("a>b, b>c, u", {"b": undone(), "u": ECHO}),
        "a b c rollback:b u@b b c",
        ok="a b c",
        visits={"b": 2, "c": 2},
    ),
    case(
        "a branch that is not reset is not undone",
        flow("a>b, c>d, u", {"a": undone(), "b": undone(), "c": undone(), "u": ECHO}),
        "c a b rollback:a d u@b u@a a b",
        ok="a b c d",
        visits={"c": 1, "a": 2},
    ),
    case(
        "nothing to undo",
        flow("a>b"),
        "a rollback b",
        status="cancelled",
        ok="a b",
    ),
    case(
        "a compensation is tried again",
        flow("a>b, u", {"a": undone(), "u": {"tries": 2, "fail": {"attempts": 1}}}),
        "a rollback b u@a u@a",
        status="cancelled",
        ok="a",
    ),
    case(
        "a compensation fails",
        flow("a>b, u, v", {"a": undone(), "b": {"compensate": "v"}, "u": ECHO, "v": FAIL}),
        "a b rollback v@b",
        status="failed",
        ok="a b",
        dead="u v",
        failures="b",
    ),
    case(
        "each round of a loop is undone",
        flow("a>b, b>a:again, b>c:done, u", {"a": undone(), "b": TWICE, "u": ECHO}),
        "a b a rollback b u@a u@a",
        status="cancelled",
        visits={"a": 2},
    ),
    case(
        "of a visit that a fallback completed, both are undone",
        flow(
            "a>b, f, u, v",
            {"a": {**undone(), "fail": {}, "fallback": "f"}, "f": {"compensate": "v"}, "u": ECHO, "v": ECHO},
        ),
        "a f@a rollback b v@f u@a",
        status="cancelled",
        ok="a f",
        reading="both have completed",
    ),
    case(
        "what failed is not undone",
        flow("a>b, u", {"a": {**undone(), "fail": {}}}),
        "a rollback",
        status="cancelled",
        failed="a",
        dead="u",
        failures="a",
    ),
    case(
        "an undone visit is not undone again",
        flow("a>b, u", {"a": undone(), "u": ECHO}),
        "a rollback:a b u@a a rollback:a b u@a a b",
        ok="a b",
        visits={"a": 3},
    ),
    case(
        "everything, and tried again",
        flow("a>b, u", {"a": undone(), "u": ECHO}),
        "a b rollback u@a no:retry rollback:a a b",
        ok="a b",
        visits={"a": 2, "b": 2},
        reading="there is nothing to try again",
    ),
    case(
        "a node that only undoes is no start node",
        flow("a>b, u", {"a": undone()}),
        "-u a b",
        ok="a b",
        dead="u",
        outputs={"": "b"},
    ),
    case(
        "a rollback ends a pause",
        flow("a>b, u", {"a": undone(), "u": ECHO}),
        "a pause rollback b u@a",
        status="cancelled",
        ok="a",
    ),
    case(
        "a signal to a run that is rolled back",
        flow("a, w", {"w": WAIT}),
        "rollback signal:w->late a",
        status="cancelled",
        cancelled="w",
    ),
]

CASES = [*PAUSED, *PATCHED, *MARKED, *RETRIED, *UNDONE]
