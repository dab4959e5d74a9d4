"""Whatever is wrong: one line on stderr, the right exit code, no traceback, nothing on stdout."""

import os
import socket
import sqlite3
from pathlib import Path

import pytest

from .conftest import Application

# What is given (APP stands for the module), the exit code, and what the line says.
CASES = [
    ("bogus", 2, "invalid choice: 'bogus'"),
    ("run", 2, "required: TARGET"),
    ("run APP:flow --concurrency 0", 2, "it must be at least 1"),
    ("run APP:flow --concurrency many", 2, "'many' is not a number"),
    ("run APP:flow --surprise", 2, "unrecognized arguments: --surprise"),
    ("run APP:flow --conc 5", 2, "unrecognized arguments"),
    ("run missing.json", 2, "cannot read missing.json: No such file"),
    ("run .", 2, "'.' is neither module:attribute nor a file"),
    ("run malformed.json", 2, "malformed.json: malformed JSON at line 2, column 3"),
    ("run binary.json", 2, "binary.json: "),
    ("run folder.json", 2, "cannot read folder.json: Is a directory"),
    ("run list.json", 2, "the blueprint must be an object, not list"),
    ("run nowhere.json", 2, "edge a -> b has a target that does not exist: 'b'"),
    ("run good.json", 2, "'a' uses 'f'"),
    ("run good.json --registry APP:flow", 2, "not a dict"),
    ("run APP:flow --registry APP:registry", 2, "--registry belongs to a blueprint's JSON file"),
    ("run no_such_module:flow", 2, "cannot import no_such_module: ModuleNotFoundError"),
    ("run syntax_error:flow", 2, "cannot import syntax_error: SyntaxError"),
    ("run exits:flow", 2, "cannot import exits: SystemExit"),
    ("run APP:flwo", 2, "did you mean 'flow'?"),
    ("run APP:", 2, "neither module:attribute nor a file"),
    ("run APP:price", 2, "is a function that needs arguments (ctx)"),
    ("run APP:registry", 2, "is a dict: it must be a Flow, FlowRuntime or Adapter"),
    ("run APP:needs", 2, "is a function that needs arguments (argument)"),
    ("run APP:unsuitable", 2, "is an async function"),
    ("run APP:broken", 2, "raised KeyError: 'broken'"),
    ("run APP:both", 2, "has 2 flows ('order', 'other'): name one with --flow"),
    ("run APP:both --flow third", 2, "has no flow 'third'"),
    ("run APP:flow --input {", 2, "--input: malformed JSON at line 1, column 2"),
    ("run APP:flow --input NaN", 2, "NaN is not JSON"),
    ("run APP:flow --input @missing.json", 2, "cannot read missing.json"),
    ("run APP:flow --input @malformed.json", 2, "malformed JSON at line 2, column 3"),
    ("run APP:flow --context []", 2, "--context must be a JSON object, not list"),
    ("run APP:flow --run-id LONG", 2, "the limit is 200"),
    ("run APP:create_adapter --url sqlite:///x.db", 2, "leave out --url"),
    ("start APP:flow", 2, "where is the store?"),
    ("status r", 2, "where is the store?"),
    ("status r --url gopher://user:secret@host/x", 2, "no adapter for the URL 'gopher://host/x'"),
    ("status r --url nonsense", 2, "no adapter for the URL 'nonsense'"),
    ("status r --url sqlite://", 2, "names no file"),
    ("status r --url sqlite:///runs.db", 2, "there is no run 'r'"),
    ("status r --app APP:flow", 2, "where is the store?"),
    ("cancel r --url sqlite:///runs.db", 2, "there is no run 'r'"),
    ("inspect r --url sqlite:///runs.db", 2, "there is no run 'r'"),
    ("diagram --run r --url sqlite:///runs.db", 2, "there is no run 'r'"),
    ("diagram", 2, "give either TARGET, or --run"),
    ("diagram APP:flow --run r", 2, "give either TARGET, or --run"),
    ("diagram APP:flow --output folder.json", 3, "cannot write folder.json"),
    ("list --url sqlite:///runs.db --limit 0", 2, "between 1 and 1000"),
    ("list --url sqlite:///runs.db --status lost", 2, "invalid choice: 'lost'"),
    ("worker APP:flow --processes 0", 2, "it must be between 1 and 1024"),
    ("worker APP:flow --health-port 70000 --url sqlite:///runs.db", 2, "between 0 and 65535"),
    ("list --url sqlite:///garbage.db", 3, "garbage.db"),
    ("list --url sqlite:///foreign.db", 3, "foreign.db"),
    ("list --url sqlite:///folder.json", 3, "folder.json"),
    ("list --url sqlite:///no/such/folder/runs.db", 3, "no/such/folder"),
    ("list --url sqlite:///good.json/runs.db", 3, "good.json"),
    ("run APP:flow --url sqlite:///garbage.db", 3, "garbage.db"),
    ("worker APP:flow --url sqlite:///foreign.db", 3, "foreign.db"),
    ("worker APP:flow --url sqlite:///foreign.db --processes 2", 3, "foreign.db"),
]


@pytest.fixture
def files(app: Application) -> None:
    Path("malformed.json").write_text("{\n  oops", encoding="utf-8")
    Path("binary.json").write_bytes(b"\xff\xfe{")
    Path("list.json").write_text("[]", encoding="utf-8")
    Path("folder.json").mkdir()
    Path("good.json").write_text('{"id": "g", "nodes": [{"id": "a", "uses": "f"}]}', encoding="utf-8")
    edge = '{"id": "g", "nodes": [{"id": "a", "uses": "f"}], "edges": [{"source": "a", "target": "b"}]}'
    Path("nowhere.json").write_text(edge, encoding="utf-8")
    Path("syntax_error.py").write_text("def", encoding="utf-8")
    Path("exits.py").write_text("raise SystemExit(5)", encoding="utf-8")
    Path("garbage.db").write_bytes(b"this is no database " * 500)
    foreign = sqlite3.connect("foreign.db")
    foreign.execute("CREATE TABLE theirs (x)")
    foreign.commit()
    foreign.close()


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("given", "wanted", "told"), CASES, ids=[case[0] for case in CASES])
def test_one_line_and_the_right_exit_code(app: Application, given: str, wanted: int, told: str) -> None:
    words = [word.replace("APP", app.name).replace("LONG", "x" * 201) for word in given.split()]
    code, out, err = app.call(*words)
    lines = [line for line in err.splitlines() if not line.startswith("20")]  # a worker logs with the time first
    assert len(lines) == 1, err
    assert lines[0].startswith("flowcraft: ")
    assert told in lines[0]
    assert "secret" not in err
    assert (code, out) == (wanted, "")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_directory_without_permission(app: Application) -> None:
    closed = Path("closed")
    closed.mkdir(mode=0o500)
    code, out, err = app.call("list", "--url", "sqlite:///closed/runs.db")
    assert (code, out, len(err.splitlines())) == (3, "", 1)
    assert "closed/runs.db" in err


def test_port_in_use(app: Application, url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, out, err = app.call("worker", app.flow, "--url", url, "--health-port", port)
    assert (code, out) == (3, "")
    assert f"flowcraft: --health-port {port}: " in err
    assert "in use" in err


def test_debug_shows_the_traceback_too(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWCRAFT_DEBUG", "1")
    code, _, err = app.call("run", app.broken)
    assert code == 2
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("flowcraft: ")


def test_no_command_shows_the_help(app: Application) -> None:
    code, out, err = app.call()
    assert (code, out) == (2, "")
    assert "commands:" in err


def test_version(app: Application) -> None:
    code, out, _ = app.call("--version")
    assert code == 0
    assert out.startswith("flowcraft-core 0.")
