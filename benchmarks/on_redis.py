"""On Redis: our engine, BullMQ flows, the TypeScript original on BullMQ, and Python queues (hatch run bench:redis)."""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import report
from harness import CACHE, PEERS, Case, Contender, Samples, UnavailableError, measure, say, verdict
from installing import from_npm, from_pypi

OURS, BULLMQ, TYPESCRIPT = "Flowcraft", "BullMQ flows", "TypeScript Flowcraft on BullMQ"
ARQ, SAQ, TASKIQ, CELERY = "arq", "saq", "taskiq", "Celery"
PROCESSES = (2, 4)
CHAIN, FAN, WIDE = 10, 100, 1_000
ITEMS = 10_000
KB, MB = 1_000, 1_000_000
STARTING = 10.0  # seconds that a server may take until it answers

Command = Callable[[], Sequence[str]]


def main() -> int:
    """Measure, print, save; the exit status."""
    options = arguments()
    CACHE.mkdir(exist_ok=True)
    where = report.machine(redis=server_version(), persistence="off, for everybody")
    with ExitStack() as servers:
        contenders = all_contenders(options, lambda: servers.enter_context(redis_server()))
        samples = measure(contenders, options.rounds)
    judged = targets(samples)
    section = report.markdown(tables(), judged, samples, where, options.rounds)
    print(section)
    say(f"every sample: {report.save('redis', samples, judged, where, options.rounds).name} in benchmarks/results")
    status = verdict(contenders, samples)
    if options.write and status == 0:
        report.write_section("redis", section)
    return max(status, int(options.check and any(target.outcome != "PASS" for target in judged)))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds; contenders alternate (default 3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="measured time per case and round (default 3)")
    parser.add_argument("--write", action="store_true", help="replace the section in README.md, if all was measured")
    parser.add_argument("--check", action="store_true", help="exit with 1 unless every target is met")
    return parser.parse_args()


def server_version() -> str:
    """As the server tells it."""
    server = shutil.which("redis-server")
    if server is None:
        raise SystemExit("redis-server is not installed: every contender gets a private one")
    told = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout
    return next(word[2:] for word in told.split() if word.startswith("v="))


@contextmanager
def redis_server() -> Iterator[str]:
    """A private server on a free port, empty and without persistence; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="bench-redis-", dir=CACHE)
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", folder, "--save", ""]
    server = subprocess.Popen([*command, "--appendonly", "no"], stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + STARTING
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if time.monotonic() > until:
                raise UnavailableError("redis-server does not answer")
            time.sleep(0.01)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def all_contenders(options: argparse.Namespace, server: Callable[[], str]) -> list[Contender]:
    """Who takes part, with which cases; every round has a new server."""

    def on_server(command: Command, processes: int = 1) -> Callable[[], list[list[str]]]:
        def commands() -> list[list[str]]:
            words, address = command(), server()
            return [[*words, address]] * processes

        return commands

    def case(shape: str, size: int, in_flight: int, processes: int = 1) -> Case:
        request = {"shape": shape, "size": size, "in_flight": in_flight // processes, "seconds": options.seconds}
        return Case(f"{shape} {size} {in_flight}", request)

    def big(size: int) -> Case:
        request = {"shape": "chain", "size": 100, "in_flight": 1, "seconds": options.seconds, "context": size}
        return Case(f"context {size}", request)

    chains = [case("chain", CHAIN, 1), case("chain", CHAIN, 100)]
    fans = [case("fan", FAN, 16), case("fan", WIDE, 4)]
    own = [Case("batch", {"items": ITEMS}), big(KB), big(MB)]
    ours = [sys.executable, str(PEERS / "flowcraft_on_redis.py")]
    return [
        Contender(OURS, "flowcraft", on_server(lambda: ours), [*chains, *fans, *own], ours=True),
        Contender(BULLMQ, "bullmq", on_server(lambda: from_npm("bullmq", "inflight.mjs")), [*chains, *fans]),
        Contender(
            TYPESCRIPT, "typescript", on_server(lambda: from_npm("flowcraft_bullmq", "inflight.mjs")),
            [*chains, *fans],
        ),
        Contender(ARQ, "arq", on_server(lambda: from_pypi("arq", "arq==0.28.*")), chains),
        Contender(SAQ, "saq", on_server(lambda: from_pypi("saq", "saq[redis]==0.26.*", "typing-extensions")), chains),
        Contender(TASKIQ, "taskiq", on_server(lambda: from_pypi("taskiq", "taskiq-redis==1.2.*")), chains),
        Contender(
            CELERY, "celery", on_server(lambda: from_pypi("celery", "celery[redis]==5.7.*")), [*chains, fans[0]]
        ),
        *(
            Contender(
                f"{OURS}, {number} processes", "flowcraft", on_server(lambda: ours, number),
                [case("chain", CHAIN, 100, number), case("fan", FAN, 16, number)], ours=True,
            )
            for number in PROCESSES
        ),
    ]  # fmt: skip


def tables() -> list[report.Table]:
    """What is shown."""
    chain, fan, wide = f"chain {CHAIN} 100", f"fan {FAN} 16", f"fan {WIDE} 4"
    speed = [
        report.Row(f"chain of {CHAIN}, 100 in flight", [chain], unit="steps/s"),
        report.Row(f"fan of {FAN}, 16 in flight", [fan], unit="steps/s"),
        report.Row(f"fan of {WIDE:,}, 4 in flight", [wide], unit="steps/s"),
        report.Row(f"chain of {CHAIN} alone, latency", [f"chain {CHAIN} 1"], "latency_ms", "ms", less_is_better=True),
        report.Row(f"commands per step, chain of {CHAIN}", [chain], "commands_per_node", "", less_is_better=True),
        report.Row(f"commands per step, fan of {FAN}", [fan], "commands_per_node", "", less_is_better=True),
        report.Row(f"kept in Redis per run, chain of {CHAIN}", [chain], "kb_per_run", "kB", less_is_better=True),
    ]
    own = [
        report.Row(f"batch of {ITEMS:,} items, from start to result", ["batch"], "seconds", "s", less_is_better=True),
        report.Row("chain of 100 with 1 KB of context", [f"context {KB}"], unit="steps/s"),
        report.Row("chain of 100 with 1 MB of context", [f"context {MB}"], unit="steps/s"),
        report.Row("from step to step with 1 KB of context", [f"context {KB}"], "step_us", "µs", less_is_better=True),
        report.Row("from step to step with 1 MB of context", [f"context {MB}"], "step_us", "µs", less_is_better=True),
    ]
    peers = [report.Column(name, name) for name in (BULLMQ, TYPESCRIPT)]
    queues = [report.Column(name, name) for name in (ARQ, SAQ, TASKIQ, CELERY)]
    more = [report.Column(f"{OURS}, {number} processes", f"{number} processes") for number in PROCESSES]
    return [
        report.Table("One process with worker and client", report.Column(OURS, OURS), peers, speed),
        report.Table("The same against queues without joins", report.Column(OURS, OURS), queues, speed),
        report.Table("What only ours has", report.Column(OURS, OURS), [], own),
        report.Table("More processes on one Redis", report.Column(OURS, "1 process"), more, speed[:2]),
    ]


def targets(samples: Samples) -> list[report.Target]:
    """The floors of the design."""
    chain, fan, alone = f"chain {CHAIN} 100", f"fan {FAN} 16", f"chain {CHAIN} 1"

    def times(case: str, peer: str) -> float | None:
        return samples.ratio((OURS, case), (peer, case))

    bullmq = samples.median(BULLMQ, alone, "latency_ms")
    return [
        report.Target(f"chain of {CHAIN}, times BullMQ", 2, times(chain, BULLMQ)),
        report.Target(f"chain of {CHAIN}, times the TypeScript original", 4, times(chain, TYPESCRIPT)),
        report.Target(f"fan of {FAN}, times BullMQ", 3, times(fan, BULLMQ)),
        report.Target(
            f"latency of a chain of {CHAIN}, BullMQ's", bullmq or 0.0,
            None if bullmq is None else samples.median(OURS, alone, "latency_ms"), " ms", at_most=True,
        ),
        report.Target(
            "commands per step of a chain", 12, samples.median(OURS, chain, "commands_per_node"), at_most=True
        ),
        report.Target(f"{ITEMS:,} items", 4, samples.median(OURS, "batch", "seconds"), " s", at_most=True),
        report.Target(
            "cost of a step with 1 MB of context, times that with 1 KB", 1.3,
            samples.ratio((OURS, f"context {KB}"), (OURS, f"context {MB}")), at_most=True,
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
