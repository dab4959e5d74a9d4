"""``signal``, ``publish``, ``pause``, ``resume``, ``retry``, ``rollback``, ``patch`` and ``mark`` on one store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Application

FLOW = {
    "id": "asking",
    "nodes": [
        {"id": "wait", "uses": "wait", "params": {"eventName": "paid"}},
        {"id": "other", "uses": "wait", "params": {"eventName": "paid"}},
        {"id": "yes", "uses": "order.price"},
        {"id": "no", "uses": "order.price"},
    ],
    "edges": [{"source": "wait", "target": "yes"}, {"source": "wait", "target": "no", "action": "reject"}],
}


@pytest.fixture
def asking(app: Application, url: str) -> Application:
    """The run ``r`` waits twice."""
    (app.folder / "asking.json").write_text(json.dumps(FLOW), encoding="utf-8")
    assert app.call("start", "asking.json", "--url", url, "--run-id", "r")[0] == 0
    return app


def one_line(err: str) -> bool:
    return err.startswith("flowcraft: ") and err.endswith("\n") and err.count("\n") == 1


def test_signal(asking: Application, url: str) -> None:
    here = ("--url", url)
    assert asking.call("signal", "r", "wait", *here, "--payload", '{"by": "Ann"}', "--id", "1") == (
        0, "r  wait  accepted\n", "",
    )  # fmt: skip
    code, out, _ = asking.call("signal", "r", "wait", *here, "--payload", "7", "--id", "1", "--json")
    assert (code, json.loads(out)) == (0, {"run_id": "r", "node": "wait", "answer": "repeated"})
    code, out, err = asking.call("signal", "r", "wait", *here, "--payload", "7")
    assert (code, out, one_line(err)) == (2, "", True)
    assert "another signal was taken for 'wait'" in err
    states = {n: s["state"] for n, s in json.loads(asking.call("status", "r", *here, "--json")[1])["nodes"].items()}
    assert states == {"wait": "completed", "other": "waiting", "yes": "ready", "no": "skipped"}


def test_signal_with_an_action_a_file_and_a_visit(asking: Application, url: str) -> None:
    Path("payload.json").write_text('{"why": "no"}', encoding="utf-8")
    code, _, err = asking.call("signal", "r", "wait", "--url", url, "--payload", "@payload.json", "--visit", "0")
    assert (code, one_line(err)) == (2, True)
    assert asking.call(
        "signal", "r", "wait", "--url", url, "--payload", "@payload.json", "--visit", "1", "--action", "reject"
    )[:2] == (0, "r  wait  accepted\n")
    states = json.loads(asking.call("status", "r", "--url", url, "--json")[1])["nodes"]
    assert (states["yes"]["state"], states["no"]["state"]) == ("skipped", "ready")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("signal", "nobody", "wait"), "no run 'nobody'"),
        (("signal", "r", "yes"), "only a wait takes a signal"),
        (("signal", "r", "nothing"), "no node 'nothing'"),
        (("signal", "r", "wait", "--payload", "{"), "malformed JSON"),
        (("signal", "r", "wait", "--payload", "text"), "text needs quotes: --payload"),
        (("signal", "r", "wait", "--visit", "x"), "--visit"),
        (("publish", "nothing", "--run", "r"), "no wait of run 'r'"),
        (("publish", "paid"), "run_id"),
        (("publish", "webhook:nobody:x"), "no run 'nobody'"),
        (("pause", "nobody"), "no run"),
        (("retry", "r"), "has not failed"),
        (("rollback", "r", "--to", "yes"), "pending"),
        (("patch", "r"), "nothing to patch"),
        (("patch", "r", "key"), "not KEY=JSON"),
        (("patch", "r", "=1"), "not KEY=JSON"),
        (("patch", "r", "key={"), "key: malformed JSON"),
        (("patch", "r", "a=1", "--delete", "a"), "both set and deleted"),
        (("mark", "r", "nothing"), "no node 'nothing'"),
    ],
)
def test_what_is_refused(asking: Application, url: str, arguments: tuple[str, ...], told: str) -> None:
    code, out, err = asking.call(*arguments, "--url", url)
    assert (code, out, one_line(err)) == (2, "", True), err
    assert told in err


def test_publish(asking: Application, url: str) -> None:
    code, out, err = asking.call("publish", "paid", "--run", "r", "--url", url, "--payload", "1", "--id", "p")
    assert (code, out, err) == (0, "wait  accepted\nother  accepted\n", "")
    code, out, _ = asking.call("publish", "paid", "--run", "r", "--url", url, "--id", "p", "--json")
    assert json.loads(out) == {"event": "paid", "answers": {"wait": "repeated", "other": "repeated"}}


def test_publish_by_the_name_of_a_webhook(asking: Application, url: str) -> None:
    assert asking.call("publish", "webhook:r:wait", "--url", url)[:2] == (0, "wait  accepted\n")


def test_pause_and_resume(asking: Application, url: str) -> None:
    assert asking.call("pause", "r", "--url", url) == (0, "r  paused\n", "")
    assert asking.call("pause", "r", "--url", url) == (0, "r  paused already\n", "")
    assert json.loads(asking.call("status", "r", "--url", url, "--json")[1])["status"] == "paused"
    assert json.loads(asking.call("resume", "r", "--url", url, "--json")[1]) == {"run_id": "r", "resumed": True}
    assert asking.call("resume", "r", "--url", url) == (0, "r  was not paused\n", "")


def test_patch(asking: Application, url: str) -> None:
    assert asking.call("patch", "r", "a=1", 'b={"x": [2]}', "c=null", "--url", url) == (0, "r  patched\n", "")
    _, out, _ = asking.call("patch", "r", "--delete", "a", "--delete", "zz", "--url", url, "--json")
    assert json.loads(out) == {"run_id": "r", "set": [], "deleted": ["a", "zz"]}


def test_mark(asking: Application, url: str) -> None:
    assert asking.call("mark", "r", "wait", "--output", "[1]", "--action", "reject", "--url", url) == (
        0, "r  wait  marked as completed\n", "",
    )  # fmt: skip
    code, out, _ = asking.call("mark", "r", "wait", "--url", url, "--json")
    assert json.loads(out) == {"run_id": "r", "node": "wait", "marked": False}
    code, _, err = asking.call("mark", "r", "yes", "--url", url)
    assert (code, one_line(err)) == (2, True)
    assert "is skipped" in err


def test_retry_and_rollback(app: Application, url: str) -> None:
    assert app.call("run", app.flow, "--url", url, "--run-id", "f", "--input", '"bad"', "--quiet")[0] == 1
    assert app.call("retry", "f", "--url", url) == (0, "f  started again, epoch 2\n", "")
    assert app.call("rollback", "f", "--url", url, "--to", "price")[:2] == (0, "f  is being rolled back\n")
    app.call("run", app.flow, "--url", url, "--run-id", "g", "--input", '"bad"', "--quiet")
    _code, out, _ = app.call("retry", "g", "charge", "--url", url, "--json")
    assert json.loads(out) == {"run_id": "g", "epoch": 2}
    _, out, _ = app.call("rollback", "g", "--url", url, "--json")
    assert json.loads(out) == {"run_id": "g", "to": None, "begun": True}


def test_rerun(asking: Application, url: str) -> None:
    here = ("--url", url)
    assert asking.call("signal", "r", "wait", *here, "--payload", "1")[0] == 0
    assert asking.call("signal", "r", "other", *here, "--payload", "1")[0] == 0
    rerun = ("rerun", "r", "--from", "wait", *here, "--context", '{"k": 1}', "--as", "again")
    assert asking.call(*rerun) == (0, "r  runs again as again\n", "")
    code, out, _ = asking.call(*rerun, "--json")
    assert (code, json.loads(out)) == (0, {"run_id": "r", "from": "wait", "new_run_id": "again"})
    states = json.loads(asking.call("status", "again", *here, "--json")[1])
    assert {n: s["state"] for n, s in states["nodes"].items()} == {
        "wait": "waiting", "other": "completed", "yes": "pending", "no": "pending",
    }  # fmt: skip
    assert states["origin"] == {"run_id": "r", "node": "wait"}
    assert json.loads(asking.call("status", "r", *here, "--json")[1])["origin"] is None
    code, out, _ = asking.call("inspect", "again", *here)
    assert (code, "origin   runs again from wait of run r\n" in out) == (0, True)
    assert "origin" not in asking.call("inspect", "r", *here)[1]
    code, out, _ = asking.call("inspect", "again", *here, "--json")
    assert json.loads(out)["events"][0]["data"] == {"rerun_of": "r", "rerun_from": "wait"}
    for wrong, told in (
        (("r", "--from", "nowhere"), "no node 'nowhere'"), (("nobody", "--from", "wait"), "no run 'nobody'"),
        (("r", "--from", "no"), "nothing has led to it"), (("r",), "--from"),
        (("r", "--from", "wait", "--as", "again"), "'again'"), (("r", "--from", "wait", "--input", "1"), "payload"),
        (("r", "--from", "yes", "--input", "{"), "malformed JSON"),
    ):  # fmt: skip
        code, out, err = asking.call("rerun", *wrong, *here)
        assert (code, out, one_line(err)) == (2, "", True), wrong
        assert told in err
    code, out, _ = asking.call("rerun", "r", "--from", "yes", *here, "--input", "null", "--json")
    made = json.loads(out)["new_run_id"]
    assert (code, made != "r") == (0, True)
