"""Runs contenders side by side: each in processes of its own, fresh in every round, in alternating order.

A contender is whatever answers the protocol of `peers/protocol.py`. One that cannot be installed or started is skipped
loudly, and is an error if the environment variable FLOWCRAFT_REQUIRE (names, separated by commas) names it.
"""

from __future__ import annotations

import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PEERS = HERE / "peers"
CACHE = HERE.parent / ".hatch"  # where everything lives that this checkout installs or makes; outside version control
STARTING = 60.0  # seconds that a process may take until it answers
REQUIRE = "FLOWCRAFT_REQUIRE"


class UnavailableError(Exception):
    """A contender cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Case:
    """One measurement: what is sent, and under which name its figures are kept."""

    key: str
    request: Mapping[str, object]
    timeout: float = 120.0


@dataclass(frozen=True)
class Contender:
    """Somebody to measure. `commands` gives the command lines of one round; several processes share every case.

    `require` is its name in FLOWCRAFT_REQUIRE; `ours` cannot be skipped at all.
    """

    name: str
    require: str
    commands: Callable[[], Sequence[Sequence[str]]]
    cases: Sequence[Case]
    ours: bool = False
    rounds: int | None = None  # fewer than the others have, for what is slow and steady


@dataclass
class Samples:
    """Everything that was measured: per contender, case and figure one number per round."""

    values: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, contender: str, case: str, reply: Mapping[str, Any]) -> None:
        """Keep the figures of one reply; `rate` is its work per second, `per_work_us` the reverse."""
        figures = {
            key: float(value) for key, value in reply.items() if key not in {"work", "started", "ended", "error"}
        }
        elapsed = reply["ended"] - reply["started"]
        figures |= {"rate": reply["work"] / elapsed, "per_work_us": elapsed / reply["work"] * 1e6}
        for figure, value in figures.items():
            self.values.setdefault((contender, case, figure), []).append(value)

    def of(self, contender: str, case: str, figure: str = "rate") -> list[float]:
        """The samples of one figure, in the order of the rounds; empty if there are none."""
        return self.values.get((contender, case, figure), [])

    def median(self, contender: str, case: str, figure: str = "rate") -> float | None:
        """The median of one figure, None if it was not measured."""
        found = self.of(contender, case, figure)
        return statistics.median(found) if found else None

    def ratio(self, over: tuple[str, str], under: tuple[str, str], figure: str = "rate") -> float | None:
        """How many times the one is the other, from the medians; each names contender and case."""
        first, second = self.median(*over, figure), self.median(*under, figure)
        return None if first is None or not second else first / second


class Process:
    """One contender's process. Replies are read by a thread, so that waiting for one has a limit."""

    def __init__(self, command: Sequence[str]) -> None:
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - close() does it
        environment = os.environ | {"PYTHONWARNINGS": "ignore", "NO_COLOR": "1"}
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment
            )
        except OSError as error:
            self._errors.close()
            raise UnavailableError(f"cannot start {command[0]}: {error}") from error
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def send(self, request: Mapping[str, object]) -> None:
        """Put a question; a process that is gone is noticed when its answer is read."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def receive(self, timeout: float) -> dict[str, Any]:
        """The next answer, within `timeout` seconds."""
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise UnavailableError(f"no answer within {timeout:.0f} s") from None
        if not line:
            raise UnavailableError(f"it ended with status {self._process.wait()}: {self._last_words()}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        return lines[-1][:300] if lines else "nothing on stderr"

    def close(self) -> None:
        """End it: politely by closing its stdin, then not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=10)
        self._process.stdout.close()
        self._errors.close()


@contextmanager
def running(commands: Sequence[Sequence[str]]) -> Iterator[tuple[list[Process], dict[str, str]]]:
    """The processes of a contender, started one after the other and ready; and the versions that they name."""
    with ExitStack() as stack:
        processes: list[Process] = []
        versions: dict[str, str] = {}
        for command in commands:
            process = Process(command)
            stack.callback(process.close)
            versions |= process.receive(STARTING)["versions"]
            processes.append(process)
        yield processes, versions


def ask(processes: Sequence[Process], case: Case) -> dict[str, Any]:
    """Put one case to all processes at once; work adds up, time spans from the first start to the last end."""
    for process in processes:
        process.send(case.request)
    replies = [process.receive(case.timeout) for process in processes]
    errors = [reply["error"] for reply in replies if "error" in reply]
    if errors:
        return {"error": errors[0]}
    merged = {key: statistics.fmean(reply[key] for reply in replies) for key in replies[0]}
    for key in merged.keys() & {"work", "runs"}:
        merged[key] = sum(reply[key] for reply in replies)
    merged["started"] = min(reply["started"] for reply in replies)
    merged["ended"] = max(reply["ended"] for reply in replies)
    return merged


def measure(contenders: Sequence[Contender], rounds: int) -> Samples:
    """All contenders, `rounds` times, in alternating order (A B, B A, A B, ...)."""
    samples = Samples()
    for number in range(rounds):
        for contender in contenders if number % 2 == 0 else reversed(contenders):
            if contender.name in samples.skipped or number >= (contender.rounds or rounds):
                continue
            say(f"round {number + 1} of {rounds}: {contender.name}")
            try:
                with running(contender.commands()) as (processes, versions):
                    samples.versions |= versions
                    _one_round(contender, processes, samples)
            except UnavailableError as error:
                if number == 0 or contender.ours:
                    samples.skipped[contender.name] = str(error)
                    say(f"!!! SKIPPED: {contender.name}: {error}")
                else:
                    say(f"!!! LOST A ROUND: {contender.name}: {error}")
    return samples


def _one_round(contender: Contender, processes: Sequence[Process], samples: Samples) -> None:
    for case in contender.cases:
        if (contender.name, case.key) in samples.failed:
            continue
        try:
            reply = ask(processes, case)
        except UnavailableError as error:
            samples.failed[contender.name, case.key] = str(error)
            say(f"!!! FAILED: {contender.name}, {case.key}: {error}")
            return  # its process hangs or is gone; the other cases have the next round
        if "error" in reply:
            samples.failed[contender.name, case.key] = reply["error"]
            say(f"!!! FAILED: {contender.name}, {case.key}: {reply['error']}")
        else:
            samples.add(contender.name, case.key, reply)


def verdict(contenders: Sequence[Contender], samples: Samples) -> int:
    """The exit status: 1 if our own engine, or a peer that FLOWCRAFT_REQUIRE names, was not measured in full."""
    wanted = set(os.environ.get(REQUIRE, "").replace(",", " ").split())
    status = 0
    for contender in contenders:
        whole = contender.name not in samples.skipped and not any(name == contender.name for name, _ in samples.failed)
        if not whole and (contender.ours or contender.require in wanted):
            say(
                f"!!! {contender.name} was not measured in full"
                + ("" if contender.ours else f", and {REQUIRE} names it")
            )
            status = 1
    return status


def sync_cost_us(folder: Path, times: int = 200) -> float:
    """What one small synchronous write costs on this disk: the floor under every durable step that is not grouped."""
    samples: list[float] = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(times):
            file.write(b"x" * 4096)
            begun = time.perf_counter()
            os.fsync(file.fileno())
            samples.append(time.perf_counter() - begun)
    return statistics.median(samples) * 1e6


def say(text: str) -> None:
    """Progress for people; results alone go to stdout."""
    print(text, file=sys.stderr, flush=True)
