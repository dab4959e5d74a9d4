"""Cases of batches (section 11)."""

from __future__ import annotations

from .cases import Row, case, flow

__all__ = ["CASES"]

ECHO: Row = {"echo": True}
ANY: Row = {"join": "any", "echo": True}
FLOW = "w_scatter>w_gather, w_gather>z"
THREE = ["x", "y", "z"]
TEN = list(range(10))


def batch(**more: object) -> Row:
    """A scatter; the params that are none of its own are what its items do."""
    options = ("concurrency", "chunkSize", "itemsPerJob", "onItemError", "tries", "delay", "fallback")
    own = {key: more.pop(key) for key in options if key in more}
    work: Row = {} if "output" in more else {"echo": True}
    return {
        "uses": "batch-scatter", "gatherNodeId": "w_gather", "workerUsesKey": "behave", **own,
        "workerParams": {**work, **more},
    }  # fmt: skip


def nodes(**more: object) -> dict[str, Row]:
    return {"w_scatter": batch(**more), "w_gather": {"uses": "batch-gather"}, "z": ECHO}


FAILING: Row = {"fail": {"items": ["y"]}}

WINDOWS = [
    case(
        "the items and their results in order",
        flow(FLOW, nodes()),
        "w_scatter held:w=0 w[2] w[0] -w_gather w[1] w_gather z",
        run_input=THREE,
        ok="w_scatter w w_gather z",
        outputs={"w_gather": THREE, "z": THREE, "": THREE},
    ),
    case(
        "an empty list",
        flow(FLOW, nodes()),
        "w_scatter -w[0] w_gather z",
        run_input=[],
        ok="w_scatter w w_gather z",
        outputs={"w_gather": [], "z": []},
    ),
    case(
        "None is a result",
        flow(FLOW, nodes(output=None)),
        run_input=["x", None],
        outputs={"z": [None, None]},
        ok="w z",
    ),
    case(
        "no more than the window at once",
        flow(FLOW, nodes(concurrency=2)),
        "w_scatter held:w=1 -w[2] w[1] held:w=0 w[2] w[0] w_gather",
        run_input=THREE,
        outputs={"z": THREE},
        ok="w z",
    ),
    case(
        "chunkSize is the window too",
        flow(FLOW, nodes(chunkSize=1)),
        "w_scatter held:w=2 -w[1] w[0] -w[2] w[1] w[2]",
        run_input=THREE,
        ok="w z",
    ),
    case(
        "the least of concurrency and chunkSize",
        flow(FLOW, nodes(concurrency=3, chunkSize=1)),
        "w_scatter held:w=2",
        run_input=THREE,
        ok="w z",
        reading="the page names one of them",
    ),
    case(
        "the window if nothing is said",
        flow(FLOW, nodes()),
        "w_scatter held:w=1 w[7] held:w=0",
        run_input=list(range(257)),
        ok="w z",
    ),
    case(
        "several items in one visit",
        flow(FLOW, nodes(itemsPerJob=4, concurrency=2)),
        "w_scatter held:w=1 w[1] w[2] w[0]",
        run_input=TEN,
        outputs={"w_gather": TEN, "z": TEN},
        ok="w z",
    ),
    case(
        "an item that is parked leaves the window",
        flow(FLOW, nodes(concurrency=1)),
        "w_scatter rest:w[0] -w[0] w[1] held:w=0 wake:w[0] -w[0] w[2] w[0]",
        run_input=THREE,
        outputs={"z": THREE},
        ok="w z",
    ),
    case(
        "one that is due comes before those that are held",
        flow(FLOW, nodes(concurrency=1)),
        "w_scatter rest:w[0] held:w=1 wake:w[0] w[1] w[0] w[2]",
        run_input=THREE,
        outputs={"z": THREE},
        ok="w z",
    ),
    case(
        "one that is due enters at once if there is room",
        flow(FLOW, nodes(concurrency=2)),
        "w_scatter rest:w[0] w[1] held:w=0 wake:w[0] w[0] w[2]",
        run_input=THREE,
        ok="w z",
    ),
    case(
        "an item that is tried again soon stays in the window",
        flow(FLOW, nodes(concurrency=1, tries=2, delay=59, fail={"items": ["x"], "attempts": 1})),
        "w_scatter w[0] held:w=2 -w[1] wake:w[0] w[0] w[1]",
        run_input=THREE,
        outputs={"z": THREE},
        ok="w z",
    ),
    case(
        "an item that is tried again in more than a minute leaves the window",
        flow(FLOW, nodes(concurrency=1, tries=2, delay=61, fail={"items": ["x"], "attempts": 1})),
        "w_scatter w[0] held:w=1 wake:w[0] -w[0] w[1] w[0] w[2]",
        run_input=THREE,
        outputs={"z": THREE},
        ok="w z",
    ),
    case(
        "other edges of a scatter are ordinary",
        flow(FLOW + ", w_scatter>b", {**nodes(), "b": ECHO}),
        "w_scatter b w[0] w[1] w[2]",
        run_input=THREE,
        ok="w b z",
        outputs={"b": {"items": 3}},
        reading="its output is how many there are",
    ),
    case(
        "a gather with another predecessor",
        flow("a>w_gather, " + FLOW, nodes()),
        "w_scatter w[0] w[1] w[2] -w_gather a w_gather",
        run_input=THREE,
        outputs={"w_gather": THREE},
        ok="z",
    ),
    case(
        "a batch in a loop",
        flow(
            "s>w_scatter, w_scatter>w_gather, w_gather>b, b>w_scatter:again, b>z:done",
            {
                "s": {"output": ["x"]},
                **nodes(),
                "b": {"output": THREE, "actions": ["again", "done"]},
            },
        ),
        "s w_scatter w[0] w_gather b w_scatter w[2] w[1] w[0] w_gather b z",
        visits={"w": 2, "b": 2},
        outputs={"w_gather": THREE},
        ok="w z",
    ),
    case(
        "an input that is no list",
        flow(FLOW, nodes()),
        "w_scatter",
        run_input="x",
        status="failed",
        failed="w_scatter",
        upstream="w w_gather z",
        failures="w_scatter",
    ),
    case("no input is an empty list", flow(FLOW, nodes()), "w_scatter w_gather", run_input=None, outputs={"z": []}),
    case(
        "a scatter that is not reached",
        flow("a>w_scatter:x, " + FLOW, nodes()),
        ok="a",
        dead="w_scatter w w_gather z",
    ),
    case("a scatter without an edge to its gather", flow("w_scatter>z, w_gather", nodes()), refused=True),
    case(
        "an action between a scatter and its gather",
        flow("w_scatter>w_gather:x, w_gather>z", nodes()),
        refused=True,
    ),
    case(
        "the item node's id is taken",
        flow(FLOW + ", w", nodes()),
        "w w_scatter w_scatter:items[0]",
        run_input=["x"],
        ok="w z w_scatter:items",
        outputs={"z": ["x"]},
    ),
]

FAILURES = [
    case(
        "the batch fails with its first failed item",
        flow(FLOW, nodes(concurrency=2, **FAILING)),
        "w_scatter w[1] -w[2] -w_gather w[0]",
        run_input=THREE,
        status="failed",
        ok="w_scatter",
        failed="w",
        upstream="w_gather z",
        failures="w",
    ),
    case(
        "the other items drain",
        flow(FLOW, nodes(**FAILING)),
        "w_scatter w[1] -w_gather w[0] -w_gather ~w[2]",
        run_input=THREE,
        status="failed",
        failed="w",
        failures="w",
    ),
    case(
        "a draining item is not tried again",
        flow(FLOW, nodes(tries=2, fail={"items": ["x", "y"], "kind": "error"})),
        "w_scatter w[1] w[1] w[0] -w[0] w[2]",
        run_input=THREE,
        status="failed",
        failed="w",
        failures="w",
    ),
    case(
        "items that wait for an attempt, are parked or held are cancelled",
        flow(FLOW, nodes(concurrency=3, tries=2, delay=5, fail={"items": [0, 2], "kind": "error"})),
        "w_scatter w[0] rest:w[1] w[2] wake:w[2] w[2] w[3]",
        run_input=TEN,
        status="failed",
        failed="w",
        failures="w",
    ),
    case(
        "an item is tried again",
        flow(FLOW, nodes(tries=3, fail={"attempts": 2})),
        "w_scatter w[0] w[0] w[0] -w[0]",
        run_input=THREE,
        ok="w z",
        outputs={"z": THREE},
    ),
    case(
        "all failures are collected",
        flow(FLOW, nodes(onItemError="collect", **FAILING)),
        "w_scatter w[1] w[0] w[2] w_gather",
        run_input=THREE,
        ok="w z",
        outputs={"z": ["x", {"error": None}, "z"]},
    ),
    case(
        "everything fails and is collected",
        flow(FLOW, nodes(onItemError="collect", fail={})),
        run_input=THREE,
        ok="w z",
        outputs={"z": [{"error": None}] * 3},
    ),
    case(
        "as many failures as are tolerated",
        flow(FLOW, nodes(onItemError=2, fail={"items": ["x", "z"]})),
        "w_scatter w[0] w[2] w[1] w_gather",
        run_input=THREE,
        ok="w z",
        outputs={"z": [{"error": None}, "y", {"error": None}]},
    ),
    case(
        "one more than is tolerated",
        flow(FLOW, nodes(onItemError=1, fail={"items": ["x", "z"]})),
        "w_scatter w[0] w[2] -w_gather w[1]",
        run_input=THREE,
        status="failed",
        failed="w",
        upstream="w_gather z",
        failures="w",
    ),
    case(
        "a fatal item",
        flow(FLOW, nodes(tries=3, onItemError="collect", fail={"items": ["y"], "kind": "fatal"})),
        "w_scatter w[1] -w[1] w[0] w[2]",
        run_input=THREE,
        ok="w z",
        outputs={"z": ["x", {"error": None}, "z"]},
    ),
    case(
        "a fallback of the scatter is not one of its items",
        flow(FLOW + ", f", nodes(fallback="f", **FAILING)),
        "w_scatter w[1] -f@w w[0] w[2]",
        run_input=THREE,
        status="failed",
        ok="w_scatter",
        failed="w",
        dead="f",
        failures="w",
        reading="of S's policies the item visits have retries and timeout",
    ),
    case(
        "items that fail in a job of several",
        flow(FLOW, nodes(itemsPerJob=2, onItemError=1, fail={"items": [3]})),
        "w_scatter w[1] -w[1] w[0]",
        run_input=[0, 1, 2, 3, 4],
        ok="w z",
        outputs={"z": [0, 1, 2, {"error": None}, 4]},
        reading="each item counts for itself, and has its attempts in the job",
    ),
    case(
        "too many items that fail in one job",
        flow(FLOW, nodes(itemsPerJob=2, onItemError=1, fail={"items": [2, 3]})),
        "w_scatter w[1] -w_gather w[0] w[2]",
        run_input=[0, 1, 2, 3, 4],
        status="failed",
        failed="w",
        upstream="w_gather z",
        failures="w",
    ),
    case(
        "a failed batch of a run that fails fast",
        flow(FLOW + ", a", nodes(**FAILING), failure="fail-fast"),
        "w_scatter w[1] w[0] w[2] -z a",
        run_input=THREE,
        status="failed",
        failed="w",
        ok="a",
        upstream="w_gather z",
        failures="w",
    ),
    case(
        "a tolerated item is no failure of a run that fails fast",
        flow(FLOW, nodes(onItemError=1, **FAILING), failure="fail-fast"),
        run_input=THREE,
        ok="w z",
    ),
]

STOPPED = [
    case(
        "a batch as a loser",
        flow("a>b, b>j, w_scatter>w_gather, w_gather>j", {**nodes(concurrency=2), "j": ANY}),
        "w_scatter w[0] a b j w[1] w[2]",
        run_input=THREE,
        ok="a b j w_scatter",
        cancelled="w w_gather",
    ),
    case(
        "an empty batch completes before losers are judged",
        flow("w_scatter>w_gather, w_gather>j, w_scatter>j", {**nodes(), "j": ANY}),
        "w_scatter j",
        run_input=[],
        ok="w_scatter w j",
        cancelled="w_gather",
    ),
    case(
        "held items of a loser never begin",
        flow("a>b, b>j, w_scatter>w_gather, w_gather>j", {**nodes(concurrency=1), "j": ANY}),
        "w_scatter a b w[0] -w[1] j",
        run_input=THREE,
        ok="a b j w_scatter",
        cancelled="w w_gather",
    ),
    case(
        "a losing batch whose item fails",
        flow("b>j, w_scatter>w_gather, w_gather>j", {**nodes(**FAILING), "j": ANY}),
        "w_scatter b w[1] w[0] w[2] j",
        run_input=THREE,
        ok="b j",
        cancelled="w w_gather",
    ),
    case(
        "a batch is cancelled",
        flow(FLOW, nodes(concurrency=2)),
        "w_scatter cancel w[1] -w[2] w[0]",
        run_input=THREE,
        status="cancelled",
        ok="w_scatter",
        cancelled="w w_gather z",
    ),
    case(
        "a batch of parked items is cancelled at once",
        flow(FLOW, nodes(concurrency=2)),
        "w_scatter rest rest cancel",
        run_input=THREE,
        status="cancelled",
        cancelled="w w_gather z",
    ),
    case(
        "a batch that had failed is cancelled",
        flow(FLOW, nodes(**FAILING)),
        "w_scatter w[1] cancel w[0] w[2]",
        run_input=THREE,
        status="cancelled",
        cancelled="w",
        reading="it is cancelled",
    ),
    case(
        "a batch in a loop that is left early",
        flow(
            "L>b:continue, L>w_scatter:continue, w_scatter>w_gather, w_gather>L, b>L, L>z:break, b>e:stop, z>e",
            {
                "L": {"uses": "loop-controller", "condition": "true"},
                **nodes(concurrency=2),
                "b": {"actions": ["stop"]},
                "e": {"join": "any", "losers": "run"},
            },
        ),
        "w_scatter w[0] b e w[2] w[1]",
        run_input=THREE,
        ok="L w_scatter b e",
        cancelled="w w_gather",
        dead="z",
    ),
]

CASES = [*WINDOWS, *FAILURES, *STOPPED]
