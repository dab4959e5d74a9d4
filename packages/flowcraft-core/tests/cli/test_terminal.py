"""The command on a real (pseudo) terminal."""

import os
import subprocess
import sys

import pytest

from .conftest import Application

pty = pytest.importorskip("pty", reason="pseudo terminals are for POSIX")


@pytest.mark.parametrize("colour", [True, False])
def test_progress_is_redrawn_in_place(app: Application, colour: bool) -> None:
    ours, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm", "COLUMNS": "80"}
    env |= {} if colour else {"NO_COLOR": "1"}
    command = [sys.executable, "-m", "flowcraft", "run", app.flow, "--input", '"flaky"', "--run-id", "r1"]
    with subprocess.Popen(  # noqa: S603 - our own command
        command, stdout=subprocess.PIPE, stderr=theirs, env=env, cwd=app.folder
    ) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # the last writer has gone
                break
            if not data:
                break
            seen += data
        out, _ = process.communicate()
    os.close(ours)
    text = seen.decode()
    assert process.returncode == 0
    assert b'"charged": "flaky"' in out
    assert "\x1b[4A\x1b[J" in text, "four lines are drawn over"
    assert ("\x1b[32m" in text) is colour
    last = text.rpartition("\x1b[J")[2]
    assert "3/3 nodes" in last
    assert "charge" in last
    assert "attempt 2" in last
