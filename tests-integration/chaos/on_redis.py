"""Campaigns on Redis: a server of our own that is killed, and between each process and it a proxy that can be broken."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import random
import shutil
import socket
import threading
from collections.abc import Coroutine, Generator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from redis import Redis

from flowcraft import FlowRuntime
from flowcraft_redis import RedisAdapter
from flowcraft_redis.keys import Keyspace

from .evidence import Outage
from .settings import Settings

__all__ = ["FAULTS", "FULL", "open_adapter", "required", "site"]

T = TypeVar("T")
FAULTS = ("restart", "cut", "stall", "kick", "scripts", "wipe")
#: What the full size is made of, see `Settings`.
FULL: dict[str, object] = {
    "runs": 2000, "strikes": 60, "every": 10.0, "echoes": 1000, "lease_ttl": 3.0, "visibility": 4.0, "resend": 10.0,
    "faults": {"restart": 10, "cut": 40, "stall": 25, "kick": 40, "scripts": 30, "wipe": 120, "pause": 12},
}  # fmt: skip
_PREFIX = "chaos"
_QUEUE = b"flowcraft-queue"
_LEASE = "lease:"


def open_adapter(settings: Settings, runtime: FlowRuntime, address: str) -> RedisAdapter:
    """The adapter of one process, with the campaign's short times."""
    return RedisAdapter(
        runtime,
        url=address,
        prefix=_PREFIX,
        queue_visibility=settings.visibility,
        lease_ttl=settings.lease_ttl,
        tick=settings.tick,
        drain_grace=settings.drain_grace,
        resend_after=settings.resend,
    )


@contextmanager
def site(settings: Settings) -> Generator[_Server]:
    """A server whose acknowledged writes survive its death, and the network to it."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise SystemExit("redis-server is not installed")
    folder = settings.place / "redis"
    folder.mkdir(exist_ok=True)
    server = _borrowed("server").Server(
        binary, folder, "--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction",
        port=_quiet_port(),
    )  # fmt: skip
    with ExitStack() as stack:
        stack.callback(server.kill)
        server.start()
        network = _Network(server.url)
        stack.callback(network.close)
        yield _Server(settings, server, network)


def required(name: str) -> bool:
    """Whether a missing server fails the tests instead of skipping them, as in the package's own."""
    return bool(_borrowed("server").required(name))


def _borrowed(name: str) -> ModuleType:
    """A module of the package's tests, which lie on no path: servers to be killed, and a network to be broken."""
    path = Path(__file__).resolve().parents[2] / "packages" / "flowcraft-redis" / "tests" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"flowcraft_redis_tests_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _quiet_port() -> int:
    """A free port below those that outgoing connections get, so that none has it when the server comes back."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class _Server:
    def __init__(self, settings: Settings, server: Any, network: _Network) -> None:
        self._settings = settings
        self._server = server
        self._network = network
        self._down = False
        with self._client() as client:
            version = client.info("server")["redis_version"]
        driver = importlib.metadata.version("redis")
        self.product = f"Redis {version} (appendonly yes, appendfsync always), redis-py {driver}"
        made = (self._restart, self._cut, self._stall, self._kick, self._scripts, self._wipe)
        self._faults = dict(zip(FAULTS, made, strict=True))

    def address(self, process: str) -> str:
        return self._network.way_of(process) if process else str(self._server.url)

    def locked(self) -> bool:
        return False

    def messages_left(self) -> int:
        part = Keyspace(_PREFIX, 1).partitions[0]
        with self._client() as client:
            return int(client.xlen(part.stream(_QUEUE, 0))) + int(client.zcard(part.delayed(_QUEUE)))

    def begin(self, fault: str, source: random.Random, processes: Sequence[str]) -> tuple[Outage, float] | None:
        return None if self._down or not processes else self._faults[fault](source, processes)

    def end(self, outage: Outage) -> None:
        if outage.what == "restart":
            self._server.start()
            self._down = False
        for process in outage.processes if outage.what == "stall" else ():
            self._network.stall(process, stalled=False)

    # ---- the faults

    def _restart(self, source: random.Random, processes: Sequence[str]) -> tuple[Outage, float]:
        """Killed; sometimes away for longer than leases and visibility last."""
        self._down = True
        outage = Outage.now("restart")
        self._server.kill()
        return outage, source.choice((0.1, 0.5, 1.0, 2.5, 1.5 * self._settings.visibility))

    def _cut(self, source: random.Random, processes: Sequence[str]) -> tuple[Outage, float]:
        """All connections of one process, or of all: what was under way has an unknown outcome."""
        outage = Outage.now("cut", _some(source, processes))
        for process in outage.processes:
            self._network.cut(process)
        return outage, 0.0

    def _stall(self, source: random.Random, processes: Sequence[str]) -> tuple[Outage, float]:
        """Nothing gets through, either way; now and then for longer than the adapter has patience (10 s)."""
        outage = Outage.now("stall", _some(source, processes))
        for process in outage.processes:
            self._network.stall(process, stalled=True)
        return outage, source.choice((0.3, 1.0, 1.5, 2.5, 4.0, 6.0, 12.0))

    def _kick(self, source: random.Random, processes: Sequence[str]) -> tuple[Outage, float]:
        """The server ends connections: all for commands, or a few of any kind."""
        with self._client() as client:
            if source.random() < 0.5:
                outage = Outage.now("kick")
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                return outage, 0.0
            ports = {port: process for process in processes for port in self._network.ports(process)}
            rows = [row for row in client.client_list() if int(row["addr"].rpartition(":")[2]) in ports]
            chosen = source.sample(rows, min(len(rows), source.randint(1, 3)))
            hit = {ports[int(row["addr"].rpartition(":")[2])] for row in chosen}
            outage = Outage.now("kick", tuple(sorted(hit)))
            for row in chosen:
                client.client_kill_filter(_id=row["id"])
            return outage, 0.0

    def _scripts(self, source: random.Random, processes: Sequence[str]) -> tuple[Outage, float]:
        """Must not be noticed by anyone, so it is the cause of nothing."""
        with self._client() as client:
            outage = Outage.now("scripts")
            client.script_flush()
            return outage, 0.0

    def _wipe(self, source: random.Random, processes: Sequence[str]) -> tuple[Outage, float]:
        """All of coordination. Which leases were there is remembered: it is the cause of nothing else."""
        begin = f"{{{_PREFIX}:coordination}}:"
        with self._client() as client:
            names: list[bytes] = list(client.scan_iter(match=f"{begin}*", count=10_000))
            outage = Outage.now("wipe")
            pipeline = client.pipeline(transaction=False)
            for name in names:
                pipeline.delete(name)
            gone = [name.decode().removeprefix(begin) for name, n in zip(names, pipeline.execute(), strict=True) if n]
        outage.leases = frozenset(name.removeprefix(_LEASE) for name in gone if name.startswith(_LEASE))
        return outage, 0.0

    def _client(self) -> Redis:
        """For a moment: connections do not survive what happens here."""
        return Redis.from_url(self._server.url)


def _some(source: random.Random, processes: Sequence[str]) -> tuple[str, ...]:
    """Mostly one, now and then all."""
    return tuple(processes) if source.random() < 0.25 else (source.choice(processes),)


class _Network:
    """A proxy for each process, in a thread of its own, so that what is cut or stalled concerns nobody else."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._proxies: dict[str, Any] = {}
        self._proxy_to = _borrowed("proxy").proxy_to
        self._stack = AsyncExitStack()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()

    def way_of(self, process: str) -> str:
        if process not in self._proxies:
            self._proxies[process] = self._ask(self._stack.enter_async_context(self._proxy_to(self._url)))
        return str(self._proxies[process].url)

    def cut(self, process: str) -> None:
        async def cut() -> None:
            self._proxies[process].cut()

        self._ask(cut())

    def stall(self, process: str, *, stalled: bool) -> None:
        async def stall() -> None:
            self._proxies[process].stalled = stalled

        self._ask(stall())

    def ports(self, process: str) -> list[int]:
        """By which the server knows the connections of a process."""

        async def ports() -> list[int]:
            names = [writer.get_extra_info("sockname") for writer in self._proxies[process]._writers]
            return [name[1] for name in names if name]

        return self._ask(ports())

    def close(self) -> None:
        self._ask(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _ask(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)
