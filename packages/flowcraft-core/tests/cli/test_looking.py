"""``start``, ``status``, ``list``, ``cancel``, ``reconcile``, ``inspect`` and ``diagram --run`` on one store."""

import json
import re

from .conftest import Application


def test_start_prints_the_id_and_is_idempotent(app: Application, url: str) -> None:
    code, out, err = app.call("start", app.flow, "--url", url, "--input", "1")
    assert (code, err) == (0, "")
    assert len(out.strip()) == 32
    for _ in range(2):
        assert app.call("start", app.flow, "--url", url, "--run-id", "r1", "--json") == (0, '{"run_id": "r1"}\n', "")
    code, out, _ = app.call("list", "--url", url, "--json")
    assert len(json.loads(out)["runs"]) == 2


def test_waiting_ends_with_the_timeout_and_the_run_goes_on(app: Application, url: str) -> None:
    code, out, err = app.call(
        "start", app.flow, "--url", url, "--run-id", "r1", "--wait", "--timeout", "0.05", "--quiet"
    )
    assert (code, out, err) == (3, "", "flowcraft: run r1 has not ended within 0.05 s; it goes on\n")
    assert json.loads(app.call("status", "r1", "--url", url, "--json")[1])["status"] == "running"


def test_status_of_a_run_that_waits_for_a_worker(app: Application, url: str) -> None:
    app.call("start", app.flow, "--url", url, "--run-id", "r1")
    code, out, err = app.call("status", "r1", "--url", url)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "r1  running  2 pending, 1 ready"
    assert [line.split() for line in lines[1:]] == [["price", "ready"], ["charge", "pending"], ["alert", "pending"]]


def test_watching_a_finished_run_tells_its_history_and_its_output(app: Application, url: str) -> None:
    app.call("run", app.flow, "--url", url, "--run-id", "r1", "--input", "1")
    code, out, err = app.call("status", "r1", "--url", url, "--watch", "--json")
    assert (code, json.loads(out)["output"]) == (0, {"charged": 1})
    assert [line.split()[0] for line in err.splitlines()] == ["run", "price", "alert", "charge"] or "charge" in err
    app.call("run", app.flow, "--url", url, "--run-id", "r2", "--input", '"bad"')
    code, out, err = app.call("status", "r2", "--url", url, "--watch")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "flowcraft: run 'r2' failed: charge: ValueError: never"


def test_list_filters_and_pages(app: Application, url: str) -> None:
    for number in range(3):
        app.call("run", app.flow, "--url", url, "--run-id", f"done{number}")
    app.call("start", app.both, "--flow", "other", "--url", url, "--run-id", "open")
    code, out, _ = app.call("list", "--url", url)
    assert code == 0
    assert out.splitlines()[0].split()[:3] == ["RUN", "STATUS", "FLOW"]
    assert len(out.splitlines()) == 5

    def ids(*options: str) -> list[str]:
        return [row["run_id"] for row in json.loads(app.call("list", "--url", url, "--json", *options)[1])["runs"]]

    assert ids("--status", "running") == ["open"]
    assert ids("--flow", "other") == ["open"]
    assert ids("--status", "failed") == []
    page = json.loads(app.call("list", "--url", url, "--json", "--limit", "3")[1])
    assert ids("--limit", "3", "--after", page["after"]) == ["done0"]
    assert "there are more: --after" in app.call("list", "--url", url, "--limit", "3")[2]


def test_cancel(app: Application, url: str) -> None:
    app.call("start", app.flow, "--url", url, "--run-id", "r1")
    code, out, _ = app.call("cancel", "r1", "--url", url, "--reason", "no money", "--json")
    told = json.loads(out)
    assert (code, told["cancelled"]) == (0, True)
    assert told["status"] in ("cancelling", "cancelled")
    app.call("run", app.flow, "--url", url, "--run-id", "r2")
    assert app.call("cancel", "r2", "--url", url)[:2] == (0, "r2  completed (it was ending or had ended already)\n")


def test_reconcile(app: Application, url: str) -> None:
    app.call("start", app.flow, "--url", url, "--run-id", "r1")
    code, out, _ = app.call("reconcile", "--url", url, "--stalled-after", "0", "--json")
    assert (code, json.loads(out)) == (
        0, {"scanned": 1, "stalled_runs": 1, "reconciled_runs": 1, "failed_runs": 0},
    )  # fmt: skip
    assert app.call("reconcile", "--url", url)[1] == "scanned 1, stalled runs 0, reconciled runs 0, failed runs 0\n"


def test_inspect(app: Application, url: str) -> None:
    app.call("run", app.flow, "--url", url, "--run-id", "r1", "--input", '"bad"')
    code, out, err = app.call("inspect", "r1", "--url", url)
    assert (code, err) == (0, "")
    assert "flow     order (version 1), 3 nodes" in out
    assert "status   failed" in out
    assert "failed: charge: ValueError: never" in out
    assert "skipped: alert" in out
    told = json.loads(app.call("inspect", "r1", "--url", url, "--json")[1])
    assert [visit["node"] for visit in told["visits"] if visit["state"] == "completed"] == ["price"]
    assert [event["seq"] for event in told["events"]] == list(range(1, len(told["events"]) + 1))


def test_diagram_of_a_flow_and_of_a_run(app: Application, url: str) -> None:
    code, out, err = app.call("diagram", app.flow)
    assert (code, err) == (0, "")
    assert out.startswith("flowchart TD\n")
    app.call("run", app.flow, "--url", url, "--run-id", "r1")
    drawn = app.call("diagram", "--run", "r1", "--url", url)[1]
    assert re.search(r'"price<br/>completed#44; [\d.]+ s"', drawn), "the history knows how long it took"
    assert '"alert<br/>skipped"' in drawn
    assert "linkStyle" in drawn
    assert "legend" not in drawn
    assert 's_completed["completed"]' in app.call("diagram", "--run", "r1", "--url", url, "--legend")[1]
    assert app.call("diagram", app.flow, "--format", "dot", "--output", "flow.dot") == (0, "", "")
    graph = json.loads(app.call("diagram", app.flow, "--format", "ui")[1])
    assert [node["id"] for node in graph["nodes"]] == ["price", "charge", "alert"]
    assert graph["edges"][1] == {"source": "price", "target": "alert", "condition": "result.output == 'alert'"}
    assert json.loads(app.call("diagram", "--run", "r1", "--url", url, "--format", "ui")[1]) == graph
    assert (app.folder / "flow.dot").read_text(encoding="utf-8").startswith('digraph "order" {')


def test_lint(app: Application) -> None:
    assert app.call("lint", app.both) == (0, "2 flow(s): 0 error(s), 0 warning(s)\n", "")
    (app.folder / "odd.json").write_text(
        '{"id": "g", "nodes": [{"id": "a", "uses": "order.prise"}, {"id": "b", "uses": "order.price"},'
        ' {"id": "c", "uses": "order.price"}], "edges": [{"source": "b", "target": "c"}]}',
        encoding="utf-8",
    )
    code, out, _ = app.call("lint", "odd.json", "--registry", app.registry)
    assert code == 1
    assert "g: error: MISSING_NODE_IMPLEMENTATION: node 'a' uses 'order.prise'" in out
    assert "(there is 'order.price')" in out
    assert app.call("lint", "odd.json")[0] == 0, "without a registry only a warning is left"
    assert app.call("lint", "odd.json", "--strict")[0] == 1
    told = json.loads(app.call("lint", "odd.json", "--json")[1])
    assert [issue["code"] for issue in told["flows"][0]["issues"]] == ["ORPHAN_NODE"]


def test_lint_of_several_flows_knows_which_subflows_there_are(app: Application) -> None:
    (app.folder / f"{app.name}_subflows.py").write_text(
        "from flowcraft import Blueprint, FlowRuntime\n"
        "made = [Blueprint.from_dict({'id': i, 'nodes': [{'id': 'c', 'uses': 'subflow',"
        " 'params': {'blueprintId': w}}]})\n"
        "        for i, w in (('one', 'two'), ('two', 'three'))]\n"
        "both, alone = FlowRuntime(blueprints=made), FlowRuntime(blueprints=made[:1])\n",
        encoding="utf-8",
    )
    code, out, _ = app.call("lint", f"{app.name}_subflows:both")
    assert code == 1
    assert "two: error: INVALID_SUBFLOW_BLUEPRINT_ID: subflow 'c' runs blueprint 'three', which is not here" in out
    assert "one: error" not in out
    assert app.call("lint", f"{app.name}_subflows:alone")[0] == 0, "what it runs may be elsewhere"


def test_lint_tells_all_that_is_wrong_with_what_is_no_blueprint(app: Application) -> None:
    edges = [{"source": "a", "target": "x"}, {"source": "y", "target": "a"}]
    (app.folder / "no.json").write_text(json.dumps({"id": "g", "nodes": [{"id": "a", "uses": "f"}], "edges": edges}))
    code, out, err = app.call("lint", "no.json", "--json")
    assert (code, err) == (1, "")
    issues = json.loads(out)["flows"][0]["issues"]
    assert [issue["code"] for issue in issues] == ["INVALID_EDGE_TARGET", "INVALID_EDGE_SOURCE"]
    (app.folder / "no.json").write_text("{")
    assert app.call("lint", "no.json")[0] == 2
