"""``flowcraft run``: what goes in, what comes out, and where it goes."""

import io
import json
from pathlib import Path

import pytest

from .conftest import Application


def test_output_goes_to_stdout_and_progress_to_stderr(app: Application) -> None:
    code, out, err = app.call("run", app.flow, "--input", '{"apple": 3}', "--run-id", "r1")
    assert code == 0
    assert json.loads(out.removeprefix("pricing\n")) == {"charge": {"charged": {"apple": 3}}} or "charged" in out
    lines = err.splitlines()
    assert lines[0] == "run r1 started"
    assert any(line.startswith("charge completed in ") for line in lines)
    assert "alert skipped" in lines
    assert "\x1b" not in err


def test_json_is_the_only_thing_on_stdout(app: Application) -> None:
    code, out, err = app.call("run", app.flow, "--input", '"flaky"', "--json")
    told = json.loads(out)
    assert code == 0
    assert told["status"] == "completed"
    assert told["output"] == {"charged": "flaky"}
    assert told["nodes"] == {"price": "completed", "charge": "completed", "alert": "skipped"}
    assert "pricing" in err
    assert "charge trying again (attempt 2): ValueError: not yet second line" in err


def test_quiet_shows_no_progress(app: Application) -> None:
    assert app.call("run", app.flow, "--quiet") == (0, 'pricing\n{\n  "charged": null\n}\n', "")


def test_text_is_printed_as_it_is(app: Application) -> None:
    code, out, _ = app.call("run", app.both, "--flow", "other", "--input", '"häagen"', "--quiet")
    assert (code, out) == (0, "häagen\n")


def test_input_from_file_and_standard_input(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in.json").write_text('{"a": [1, 2]}', encoding="utf-8")
    _, out, _ = app.call("run", app.flow, "--input", "@in.json", "--json")
    assert json.loads(out)["output"] == {"charged": {"a": [1, 2]}}
    monkeypatch.setattr("sys.stdin", io.StringIO("7"))
    _, out, _ = app.call("run", app.flow, "--input", "-", "--json")
    assert json.loads(out)["output"] == {"charged": 7}


def test_context(app: Application) -> None:
    _, out, _ = app.call("run", app.flow, "--input", '"alert"', "--context", '{"who": "Ada"}', "--json")
    assert json.loads(out)["output"] == {"charge": {"charged": "alert"}, "alert": "Ada"}


def test_a_failed_run_is_one_line_and_exit_code_1(app: Application) -> None:
    code, out, err = app.call("run", app.flow, "--input", '"bad"', "--run-id", "r2", "--quiet")
    assert (code, out) == (1, "pricing\n")
    assert err == "flowcraft: run 'r2' failed: charge: ValueError: never\n"
    code, out, _ = app.call("run", app.flow, "--input", '"bad"', "--json", "--quiet")
    told = json.loads(out)
    assert (code, told["status"]) == (1, "failed")
    assert told["failures"][0]["errors"] == [{"kind": "ValueError", "message": "never"}]


def test_blueprint_file_with_registry(app: Application) -> None:
    blueprint = {"id": "b", "nodes": [{"id": "p", "uses": "order.price"}], "edges": []}
    Path("b.json").write_text(json.dumps(blueprint), encoding="utf-8")
    code, out, _ = app.call("run", "b.json", "--registry", app.registry, "--input", "1", "--json")
    assert (code, json.loads(out)["output"]) == (0, 1)


def test_durably_and_again_with_the_same_id(app: Application, url: str) -> None:
    arguments = ("run", app.flow, "--url", url, "--run-id", "r3", "--input", "5", "--json", "--quiet")
    code, out, err = app.call(*arguments)
    assert (code, json.loads(out)["output"], err) == (0, {"charged": 5}, "pricing\n")
    code, out, err = app.call(*arguments)
    assert (code, json.loads(out)["output"], err) == (0, {"charged": 5}, ""), "nothing is executed again"
    code, out, err = app.call("run", app.flow, "--url", url, "--run-id", "r3", "--input", "6")
    assert (code, out) == (2, "")
    assert "'r3' was started with another" in err


def test_target_that_is_an_adapter(app: Application) -> None:
    code, out, _ = app.call("run", app.create_adapter, "--run-id", "mine", "--input", "1", "--json")
    assert (code, json.loads(out)["output"]) == (0, {"charged": 1})
    assert (app.folder / "own.db").exists()
    code, out, _ = app.call("status", "mine", "--app", app.create_adapter, "--json")
    assert (code, json.loads(out)["status"]) == (0, "completed")
