"""Commands with a server of their own, as `hatch run conformance:valkey` is one."""

from __future__ import annotations

import sys

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as Refused

from .conftest import missing
from .private import _program, main, private

#: Fails if the server that it finds does not answer.
COMMAND = "import os, redis; redis.Redis.from_url(os.environ['FLOWCRAFT_REDIS_URL']).ping(); raise SystemExit(3)"


@pytest.fixture(params=["redis", "valkey", "cluster"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("FLOWCRAFT_REDIS_URL", raising=False)
    name: str = request.param
    if _program(name) is None:
        missing(name, "its server is not installed")
    return name


def test_a_server_is_there_for_the_block_only(kind: str) -> None:
    with private(kind) as url, Redis.from_url(url) as client:
        info = client.info()
        mode = info.get("redis_mode") or info["server_mode"]
        assert mode == ("cluster" if kind == "cluster" else "standalone")
        assert info.get("server_name", "redis") == ("valkey" if kind == "valkey" else "redis")
        assert info["aof_enabled"] == 1
    with Redis.from_url(url) as client, pytest.raises(Refused):
        client.ping()


def test_a_command_finds_the_server_and_its_status_is_passed_on(kind: str) -> None:
    assert main(kind, [sys.executable, "-c", COMMAND]) == 3


def test_what_cannot_be_started_is_told() -> None:
    with pytest.raises(SystemExit, match="no oracle is installed here"):
        main("oracle", ["true"])
