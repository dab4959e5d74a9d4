"""Services for tests, wherever they come from, and always without touching what was in them.

For each service, in this order: an address in the environment; a private instance of a server that is installed here; a
container, where an engine answers; on Debian as root, the distribution's package. What cannot be had skips the test,
unless ``FLOWCRAFT_REQUIRE`` names the service (``redis,postgres``, or ``all``): then it fails.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["REDIS", "Missing", "Service", "provided", "required"]

_PATIENCE = 30.0


class Missing(Exception):
    """The service cannot be had in this way; the text says why."""


@dataclass(frozen=True)
class Service:
    """``variable``: of the environment, with the address · ``url``: the address, of ``{host}`` and ``{port}`` ·
    ``program``: the server's · ``start``: the command of a private instance, in a folder and on a port · ``answers``:
    whether it does, on a port · ``image``, ``port``: of the container · ``package``: of Debian.
    """

    name: str
    variable: str
    url: str
    program: str
    start: Callable[[str, Path, int], Sequence[str]]
    answers: Callable[[int], bool]
    image: str
    port: int
    package: str


def required(name: str) -> bool:
    """Whether ``FLOWCRAFT_REQUIRE`` names the service."""
    names = {each.strip() for each in os.environ.get("FLOWCRAFT_REQUIRE", "").split(",")}
    return bool(names & {name, "all"})


@contextmanager
def provided(service: Service) -> Generator[str]:
    """The address of the service, which is there for as long as the block lasts; or the test is skipped, or fails."""
    reasons: list[str] = []
    for way in (_from_environment, _installed, _in_container, _from_debian):
        with contextlib.ExitStack() as stack:
            try:
                address = stack.enter_context(way(service))
            except Missing as error:
                reasons.append(str(error))
                continue
            yield address
            return
    told = f"no {service.name}: {'; '.join(reasons)}"
    if required(service.name):
        pytest.fail(f"{told} (FLOWCRAFT_REQUIRE names it)", pytrace=False)
    pytest.skip(told)


@contextmanager
def _from_environment(service: Service) -> Generator[str]:
    address = os.environ.get(service.variable)
    if not address:
        raise Missing(f"{service.variable} is not set")
    yield address


@contextmanager
def _installed(service: Service) -> Generator[str]:
    program = shutil.which(service.program)
    if program is None:
        raise Missing(f"{service.program} is not installed")
    with tempfile.TemporaryDirectory(prefix=f"flowcraft-{service.name}-") as name, contextlib.ExitStack() as stack:
        folder, port = Path(name), _free_port()
        log = stack.enter_context((folder / "log").open("wb"))
        process = subprocess.Popen(service.start(program, folder, port), stdout=log, stderr=log, cwd=folder)
        stack.callback(_stop, process)
        end = time.monotonic() + _PATIENCE
        while not service.answers(port):
            if process.poll() is not None or time.monotonic() > end:
                said = (folder / "log").read_text(errors="replace")[-500:]
                raise Missing(f"{program} does not answer: {said.strip()}")
            time.sleep(0.02)  # between two questions: a process that starts tells nobody
        yield service.url.format(host="127.0.0.1", port=port)


@contextmanager
def _in_container(service: Service) -> Generator[str]:
    try:
        containers = importlib.import_module("testcontainers.core.container")
    except ImportError:
        raise Missing("testcontainers is not installed") from None
    container = None
    try:
        container = containers.DockerContainer(service.image).with_exposed_ports(service.port)
        container.start()
    except Exception as error:  # noqa: BLE001 - whatever an engine that is not there looks like
        raise Missing(f"no container: {type(error).__name__}") from None
    try:
        host, port = container.get_container_host_ip(), int(container.get_exposed_port(service.port))
        yield service.url.format(host=host, port=port)
    finally:
        container.stop()


@contextmanager
def _from_debian(service: Service) -> Generator[str]:
    if shutil.which("apt-get") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise Missing("this is not Debian, or not root")
    if not required(service.name):
        raise Missing(f"FLOWCRAFT_REQUIRE does not name it, so {service.package} is not installed")
    done = subprocess.run(
        ["apt-get", "install", "-y", "--no-install-recommends", service.package], capture_output=True, text=True,
        check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )  # fmt: skip
    if done.returncode:
        raise Missing(f"{service.package} cannot be installed: {done.stderr.strip()[-300:]}")
    with _installed(service) as address:
        yield address


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _redis_command(program: str, folder: Path, port: int) -> Sequence[str]:
    """Everything is kept, as in production: an append-only file, and nothing is evicted."""
    return [
        program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "yes",
        "--appendfsync", "everysec", "--maxmemory-policy", "noeviction", "--daemonize", "no",
    ]  # fmt: skip


def _redis_answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


REDIS = Service(
    "redis", "FLOWCRAFT_REDIS_URL", "redis://{host}:{port}/0", "redis-server", _redis_command, _redis_answers,
    "redis:7", 6379, "redis-server",
)  # fmt: skip
