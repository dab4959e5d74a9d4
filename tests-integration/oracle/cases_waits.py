"""Cases of sleeping, waiting for signals, and subflows (sections 10 and 12)."""

from __future__ import annotations

from .cases import Row, case, flow

__all__ = ["CASES"]

FAIL: Row = {"fail": {}}
ECHO: Row = {"echo": True}
ANY: Row = {"join": "any", "echo": True}
WAIT: Row = {"uses": "wait"}
SUB: Row = {"uses": "subflow", "blueprintId": "child", "output": "from below"}


def sleep(duration: object, **more: object) -> Row:
    return {"uses": "sleep", "duration": duration, **more}


def wait(timeout: object = None, **more: object) -> Row:
    return {"uses": "wait", **({} if timeout is None else {"timeout": timeout}), **more}


SLEEPS = [
    case(
        "a sleep hands on its input",
        flow("a>s, s>b", {"s": sleep("90s"), "b": ECHO}),
        "a -s is:awaiting tick:89 -b tick:1 is:running b",
        ok="a s b",
        outputs={"s": "a", "b": "a"},
    ),
    case("milliseconds", flow("a>s, s>b", {"s": sleep(1500)}), "a tick:1.4 -b tick:0.1 b", ok="a s b"),
    case("days", flow("a>s, s>b", {"s": sleep("7d")}), "a tick:604799 -b tick:1 b", ok="a s b"),
    case(
        "a sleep of no time ends at the next tick",
        flow("a>s, s>t, t>b", {"s": sleep(0), "t": sleep(0)}),
        "a is:awaiting tick -b is:awaiting tick b",
        ok="a s t b",
    ),
    case(
        "the input of a sleep is read at its end",
        flow("a>s, s>b", {"s": sleep("1s", inputs="K"), "b": ECHO}),
        "patch:K=1 a patch:K=2 tick b",
        ok="s b",
        outputs={"b": {"n": 2}},
    ),
    case(
        "a sleep that is a loser is cancelled at once",
        flow("a>s, s>j, b>j", {"s": sleep("1h"), "j": ANY}),
        "a b j",
        ok="a b j",
        cancelled="s",
    ),
    case(
        "a sleep wins",
        flow("s>j, b>j, b>k", {"s": sleep("1s"), "j": ANY}),
        "tick j b k",
        ok="s j b k",
        outputs={"j": "input"},
    ),
    case(
        "a sleep is cancelled with the run",
        flow("s>b", {"s": sleep("1h")}),
        "cancel",
        status="cancelled",
        cancelled="s b",
    ),
    case(
        "a sleep is cancelled when the run fails fast",
        flow("s>b, a", {"s": sleep("1h"), "a": FAIL}, failure="fail-fast"),
        "a",
        status="failed",
        failed="a",
        cancelled="s b",
        failures="a",
    ),
    case(
        "of two that are due at one tick the earlier is first",
        flow("s>j, t>j", {"s": sleep("5s"), "t": sleep("3s"), "j": {**ANY, "losers": "run"}}),
        "tick:9 j",
        ok="s t j",
        outputs={"j": "input"},
        reading="in the order of their times",
    ),
    case(
        "of two that are due at one tick the earlier cancels the other",
        flow("s>j, t>j, t>k", {"s": sleep("5s"), "t": sleep("3s"), "j": ANY}),
        "tick:9 j k",
        ok="t j k",
        cancelled="s",
        reading="in the order of their times",
    ),
    case(
        "a sleep in a loop sleeps each time",
        flow("s>b, b>s:again, b>z:done", {"s": sleep("1m"), "b": {"actions": ["again", "done"]}}),
        "tick:60 b tick:59 -b tick:1 b z",
        visits={"s": 2, "b": 2},
        ok="s b z",
    ),
    case(
        "a sleep is left early by its loop",
        flow(
            "L>s:continue, L>b:continue, s>L, b>L, L>z:break, b>e:stop, z>e",
            {
                "L": {"uses": "loop-controller", "condition": "true"},
                "s": sleep("1h"),
                "b": {"actions": ["stop"]},
                "e": {"join": "any", "losers": "run"},
            },
        ),
        "b e",
        ok="L b e",
        cancelled="s",
    ),
    case(
        "a sleep stands in for what failed",
        flow("a>b, s", {"a": {"fail": {}, "fallback": "s"}, "s": sleep("1s")}),
        refused=True,
    ),
]

SIGNALS = [
    case(
        "a signal completes a wait",
        flow("a>w, w>b", {"w": WAIT, "b": ECHO}),
        "a is:awaiting signal:w b",
        ok="a w b",
        outputs={"w": "w!", "b": "w!"},
    ),
    case(
        "a signal chooses the way",
        flow("w>b:yes, w>c:no", {"w": WAIT}),
        "signal:w:no c",
        ok="w c",
        dead="b",
    ),
    case("an action that no edge names", flow("w>b:yes, w>c", {"w": WAIT}), "signal:w:maybe c", ok="w c", dead="b"),
    case(
        "the same signal again",
        flow("w>b", {"w": WAIT}),
        "signal:w=x signal:w=x->accepted signal:w=y->late b",
        ok="w b",
    ),
    case(
        "the same signal again in a later visit is the old one",
        flow("w>b, b>w:again, b>z:done", {"w": WAIT, "b": {"actions": ["again", "done"]}}),
        "signal:w=x b signal:w=x->accepted -b signal:w=y b z",
        ok="w b z",
        visits={"w": 2},
    ),
    case(
        "a signal that is early",
        flow("a>w, w>b", {"w": WAIT}),
        "signal:w:yes->kept a b",
        ok="a w b",
        outputs={"w": "w!"},
    ),
    case(
        "an early signal again",
        flow("a>w, w>b", {"w": WAIT}),
        "signal:w=x->kept signal:w=x->kept signal:w=y->conflict a signal:w=x->kept signal:w=y->late b",
        ok="a w b",
        reading="the first answer; an id that was refused is not remembered",
    ),
    case("a signal for a visit by its number", flow("w>b", {"w": WAIT}), "signal:w#1 b", ok="w b"),
    case(
        "a named visit and an unnamed one conflict",
        flow("a>w", {"w": WAIT}),
        "signal:w#1->kept signal:w->conflict a",
        ok="a w",
    ),
    case(
        "a signal for a later visit",
        flow("w>b, b>w:again, b>z:done", {"w": WAIT, "b": {"actions": ["again", "done"]}}),
        "signal:w#2->kept -b signal:w signal:w->late b b z",
        ok="w b z",
        visits={"w": 2},
    ),
    case(
        "a signal for a visit that is over",
        flow("w>b, b>w:again, b>z:done", {"w": WAIT, "b": {"actions": ["again", "done"]}}),
        "signal:w b signal:w#1->late signal:w#2 b z",
        ok="w b z",
        visits={"w": 2},
    ),
    case(
        "between two visits a signal must name one",
        flow("c>w, w>b, b>c:again, b>z:done", {"w": WAIT, "b": {"actions": ["again", "done"]}}),
        "c signal:w b signal:w->late signal:w#2->kept c b z",
        ok="w b z",
        visits={"w": 2},
    ),
    case("a signal for no wait", flow("a>w", {"w": WAIT}), "signal:a->not_a_wait a signal:w", ok="a w"),
    case(
        "a signal for a wait that was skipped",
        flow("a>w:x, a>b", {"w": WAIT}),
        "a signal:w->late signal:w#1->late signal:w#2->late b",
        ok="a b",
        dead="w",
    ),
    case(
        "a signal for a wait that was skipped in this round",
        flow(
            "a>w:x, a>b, w>b, b>a:again, b>z:done",
            {
                "a": {"actions": [None, "x"]},
                "w": WAIT,
                "b": {"join": "any", "losers": "run", "actions": ["again", "done"]},
            },
        ),
        "a signal:w->kept b a b z",
        ok="a w b z",
        visits={"w": 1},
        reading="it may be visited later",
    ),
    case("a signal after the end", flow("a>w:x", {"w": WAIT}), "a signal:w->late signal:a->late", ok="a", dead="w"),
    case(
        "a signal for a run that is being stopped",
        flow("a>w, b", {"w": WAIT}),
        "cancel signal:w->late a b",
        status="cancelled",
        ok="a b",
        cancelled="w",
    ),
    case(
        "a wait that is a loser is cancelled at once",
        flow("w>j, b>j", {"w": WAIT, "j": ANY}),
        "b signal:w->late j",
        ok="b j",
        cancelled="w",
    ),
    case(
        "an early signal and a join",
        flow("a>w, w>j, b>j", {"w": WAIT, "j": ANY}),
        "signal:w->kept a j b",
        ok="a w j b",
        outputs={"j": "w!"},
    ),
    case(
        "the first of two waits",
        flow("v>j, w>j", {"v": WAIT, "w": WAIT, "j": ANY}),
        "signal:w signal:v->late j",
        ok="w j",
        cancelled="v",
        outputs={"j": "w!"},
    ),
    case(
        "a run is not awaiting while something runs",
        flow("w>b, a", {"w": WAIT, "a": {"tries": 2, "delay": 5, "fail": {"attempts": 1}}}),
        "is:running a is:running wake:a a is:awaiting signal:w b",
        ok="w a b",
    ),
    case(
        "a wait stands in for what failed",
        flow("a>b, w", {"a": {"fail": {}, "fallback": "w"}, "w": WAIT, "b": ECHO}),
        refused=True,
    ),
]

TIMEOUTS = [
    case(
        "a timeout with a way",
        flow("w>b, w>c:timeout", {"w": wait("1m"), "c": ECHO}),
        "tick:59 -c tick:1 signal:w->late c",
        ok="w c",
        dead="b",
        outputs={"c": None},
    ),
    case(
        "a signal before the timeout",
        flow("w>b, w>c:timeout", {"w": wait("1m")}),
        "tick:59 signal:w tick:9 b",
        ok="w b",
        dead="c",
    ),
    case(
        "a timeout without a way",
        flow("w>b", {"w": wait("1m", tries=3)}),
        "tick:60",
        status="failed",
        failed="w",
        upstream="b",
        failures="w",
        visits={"w": 1},
    ),
    case(
        "a timeout and a fallback",
        flow("w>b, f", {"w": wait("1m", fallback="f"), "b": ECHO}),
        "tick:60 signal:w->late f@w b",
        ok="w f b",
        outputs={"w": "f"},
    ),
    case(
        "a signal comes while the run of a timeout's fallback is waited for",
        flow("w>b, f", {"w": wait("1m", fallback="f"), "f": SUB, "b": ECHO}),
        "tick:60 start:f@w signal:w->late done:w b",
        ok="w f b",
        outputs={"w": "from below"},
    ),
    case(
        "a timeout with a way needs no fallback",
        flow("w>b:timeout, f", {"w": wait("1m", fallback="f")}),
        "tick:60 b",
        ok="w b",
        dead="f",
    ),
    case(
        "the way of a timeout has a condition",
        flow("w>b:timeout?input.n > 3, w>c", {"w": wait("1m")}),
        "tick:60",
        ok="w",
        dead="b c",
    ),
    case(
        "a later wait has its own time",
        flow("w>b, b>w:again, b>z:done, w>t:timeout", {"w": wait("1m"), "b": {"actions": ["again", "done"]}}),
        "tick:50 signal:w b tick:50 -t tick:10 t",
        ok="w t b",
        dead="z",
        visits={"w": 2},
        outputs={"w": None},
    ),
]

SUBFLOWS = [
    case(
        "a subflow completes",
        flow("a>s, s>b", {"s": SUB, "b": ECHO}),
        "a start:s -s is:running done:s b",
        ok="a s b",
        outputs={"s": "from below", "b": "from below"},
    ),
    case(
        "a subflow writes to the context",
        flow("s>b?K.n > 6, s>c?K.n > 7", {"s": {**SUB, "outputs": {"K": "x"}}}),
        "start:s done:s b",
        ok="s b",
        dead="c",
        context={"K": {"n": 7, "from": "x"}},
    ),
    case(
        "a subflow fails",
        flow("s>b", {"s": SUB}),
        "start:s fail:s",
        status="failed",
        failed="s",
        upstream="b",
        failures="s",
    ),
    case(
        "a subflow fails and is tried again, as another child",
        flow("s>b", {"s": {**SUB, "tries": 2}}),
        "start:s fail:s start:s -b done:s b",
        ok="s b",
        visits={"s": 1},
    ),
    case(
        "a cancelled child is not tried again",
        flow("s>b", {"s": {**SUB, "tries": 2}}),
        "start:s stop:s",
        status="failed",
        failed="s",
        upstream="b",
        failures="s",
    ),
    case(
        "a fallback stands in for a subflow that was cancelled",
        flow("s>b, f", {"s": {**SUB, "fallback": "f"}}),
        "start:s stop:s f@s b",
        ok="s f b",
        outputs={"s": "f"},
    ),
    case(
        "a subflow stands in for what failed",
        flow("a>b, s", {"a": {"fail": {}, "fallback": "s"}, "s": SUB}),
        "a start:s@a done:a b",
        ok="a s b",
        outputs={"a": "from below"},
    ),
    case(
        "a cancelled run waits for its child",
        flow("s>b", {"s": SUB}),
        "start:s cancel is:running stop:s",
        status="cancelled",
        cancelled="s b",
    ),
    case(
        "a child completes though its parent is cancelled",
        flow("s>b", {"s": SUB}),
        "start:s cancel done:s",
        status="cancelled",
        ok="s",
        cancelled="b",
        outputs={"s": "from below"},
    ),
    case(
        "a subflow is a loser",
        flow("s>j, b>j", {"s": SUB, "j": ANY}),
        "start:s b j is:running stop:s",
        ok="b j",
        cancelled="s",
    ),
    case(
        "a subflow is a loser before its child begins",
        flow("s>j, b>j", {"s": SUB, "j": ANY}),
        "b start:s j stop:s",
        ok="b j",
        cancelled="s",
    ),
    case(
        "a losing subflow fails",
        flow("s>j, b>j", {"s": {**SUB, "tries": 3}, "j": ANY}),
        "start:s b j fail:s",
        ok="b j",
        failed="s",
        failures="s",
    ),
    case(
        "a subflow drains when its loop is left early",
        flow(
            "L>s:continue, L>b:continue, s>L, b>L, L>z:break, b>e:stop, z>e",
            {
                "L": {"uses": "loop-controller", "condition": "true"},
                "s": SUB,
                "b": {"actions": ["stop"]},
                "e": {"join": "any", "losers": "run"},
            },
        ),
        "start:s b e is:running stop:s",
        ok="L b e",
        cancelled="s",
    ),
    case(
        "a run that waits for a subflow is not awaiting",
        flow("s, w", {"s": SUB, "w": WAIT}),
        "start:s is:running done:s is:awaiting signal:w",
        ok="s w",
    ),
    case(
        "an execution that makes no child",
        flow("s>b", {"s": {**SUB, "fail": {"kind": "final"}, "tries": 2}}),
        "s",
        status="failed",
        failed="s",
        upstream="b",
        failures="s",
    ),
]

CASES = [*SLEEPS, *SIGNALS, *TIMEOUTS, *SUBFLOWS]
