"""``flowcraft worker`` as processes: signals, supervision, health, logs. Everything is awaited by what is printed."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import Application

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

SLOW = """
import asyncio
from pathlib import Path

from flowcraft import Flow, NodeContext

flow = Flow[None]("slow")


@flow.node
async def wait(ctx: NodeContext[object, None]) -> str:
    print("begun", ctx.attempt, flush=True)
    while not Path("go").exists():
        await asyncio.sleep(0.01)  # what is waited for is a file of another process
    return "waited"


@flow.node(after=wait)
async def after(ctx: NodeContext[str, None]) -> str:
    ctx.log.info("a line of the node")
    return ctx.input + " and after"
"""


@pytest.fixture
def slow(app: Application) -> str:
    (app.folder / f"slow_{app.name}.py").write_text(SLOW, encoding="utf-8")
    return f"slow_{app.name}:flow"


class Running:
    """A worker command whose lines (stdout and stderr together) are read one by one."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.seen: list[str] = []

    def until(self, pattern: str) -> "re.Match[str]":
        """Read on to the first line that matches; the timeout of the test ends a wait in vain."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.seen.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"no line matches {pattern!r}: {''.join(self.seen)}")

    def end(self) -> int:
        """Read the rest, and return the exit code."""
        assert self.process.stdout is not None
        self.seen += self.process.stdout
        return self.process.wait()


@contextmanager
def worker(target: str, *options: str, folder: Path) -> Iterator[Running]:
    command = [sys.executable, "-m", "flowcraft", "worker", target, "--url", "sqlite:///runs.db", *options]
    process = subprocess.Popen(  # noqa: S603 - our own command
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        yield Running(process)
    finally:
        process.kill()
        process.communicate()


def get(port: str) -> tuple[int, dict[str, object]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_first_signal_lets_running_nodes_finish(app: Application, slow: str, url: str) -> None:
    app.call("start", slow, "--url", url, "--run-id", "r1")
    with worker(slow, "--log-format", "json", folder=app.folder) as running:
        running.until("^begun 1")
        running.process.send_signal(signal.SIGTERM)
        assert '"stopping: 1 visit(s) in hand"' in running.until("stopping").string
        (app.folder / "go").touch()
        assert running.end() == 0
    assert "begun" not in "".join(running.seen[2:]), "it was executed once"
    states = json.loads(app.call("status", "r1", "--url", url, "--json")[1])["nodes"]
    assert states["wait"]["state"] == "completed"
    for line in running.seen:
        if not line.startswith("begun"):
            assert {"time", "level", "logger", "message", "process"} <= set(json.loads(line))


def test_second_signal_ends_it_at_once_and_loses_nothing(app: Application, slow: str, url: str) -> None:
    app.call("start", slow, "--url", url, "--run-id", "r1")
    with worker(slow, "--grace", "3600", folder=app.folder) as running:
        running.until("^begun 1")
        running.process.send_signal(signal.SIGINT)
        running.until("stopping")
        running.process.send_signal(signal.SIGINT)
        running.until("worker ends at once")
        assert running.end() == 130
    told = json.loads(app.call("status", "r1", "--url", url, "--json")[1])
    assert (told["status"], told["nodes"]["wait"]["state"]) == ("running", "ready")


def test_health_of_one_worker(app: Application, url: str) -> None:
    with worker(app.flow, "--health-port", "0", folder=app.folder) as running:
        port = running.until(r"health on http://127.0.0.1:(\d+)/healthz")[1]
        status, told = get(port)
        while status != 200:  # it has just begun to receive
            status, told = get(port)
        assert told == {"healthy": True, "in_hand": 0, "pid": running.process.pid, "stopping": False}
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 0


def test_supervisor_replaces_a_worker_that_dies_and_ends_with_all(app: Application, slow: str, url: str) -> None:
    (app.folder / "go").touch()
    options = ("--processes", "2", "--health-port", "0", "--log-format", "json")
    with worker(slow, *options, folder=app.folder) as running:
        port = running.until(r"health on http://127.0.0.1:(\d+)/healthz")[1]
        victims = [json.loads(running.until(r'"worker [0-9a-f]{16}: ').string)["process"] for _ in range(2)]
        os.kill(victims[0], signal.SIGKILL)
        running.until(r"worker \d \(pid \d+\) ended: signal 9; another starts in 0.5 s")
        running.until(r'"worker [0-9a-f]{16}: ')
        status, told = get(port)
        while status != 200:  # the new one has not told yet how it is
            status, told = get(port)
        rows = told["processes"]
        assert isinstance(rows, list)
        assert sorted(row["restarts"] for row in rows) == [0, 1]
        pids = [row["pid"] for row in rows]
        app.call("start", slow, "--url", url, "--run-id", "r1")
        running.until("a line of the node")
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 0
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_workers_do_not_outlive_a_supervisor_that_was_killed(app: Application, url: str) -> None:
    with worker(app.flow, "--processes", "2", folder=app.folder) as running:
        for _ in range(2):
            running.until(r"worker [0-9a-f]{16}: ")
        running.process.kill()
        running.end()  # returns when the last holder of the pipe has ended
    text = "".join(running.seen)
    assert text.count("the supervisor is gone, stopping") == 2
    assert text.count("worker ends") == 2


def test_supervisor_gives_up_when_a_worker_can_never_run(app: Application) -> None:
    with (app.folder / f"{app.name}.py").open("a", encoding="utf-8") as file:
        file.write("import os\nif 'FLOWCRAFT_SUPERVISOR' in os.environ:\n    flow = 5\n")
    with worker(app.flow, "--processes", "2", "--log-level", "error", folder=app.folder) as running:
        assert running.end() == 2
    assert f"flowcraft: {app.flow} is a int" in "".join(running.seen)
