"""Where services come from, in which order, and what happens when there is none."""

# ruff: noqa: TID252 - the folder has a hyphen in its name, so nothing here can be imported absolutely

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ..services import REDIS, Missing, _from_debian, _installed, provided, required

NOWHERE = replace(REDIS, name="nothing", variable="FLOWCRAFT_NOTHING_URL", program="no-such-server", package="no-such")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLOWCRAFT_REQUIRE", REDIS.variable, NOWHERE.variable):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "testcontainers", None)


def test_an_address_in_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REDIS.variable, "redis://elsewhere:1/0")
    with provided(REDIS) as address:
        assert address == "redis://elsewhere:1/0"


def test_what_is_missing_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pytest.skip.Exception) as caught, provided(NOWHERE):
        pass
    told = str(caught.value)
    assert told.startswith("no nothing: FLOWCRAFT_NOTHING_URL is not set; no-such-server is not installed")
    assert "testcontainers is not installed" in told


def test_what_is_missing_and_required_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWCRAFT_REQUIRE", "redis, nothing")
    monkeypatch.setenv("PATH", "")  # neither the server nor apt-get
    with pytest.raises(pytest.fail.Exception, match="FLOWCRAFT_REQUIRE names it"), provided(NOWHERE):
        pass


@pytest.mark.parametrize(
    ("value", "expected"), [("", False), ("redis", True), ("postgres, redis", True), ("all", True), ("rediss", False)]
)
def test_required(value: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWCRAFT_REQUIRE", value)
    assert required("redis") is expected


def test_nothing_is_installed_that_nobody_required() -> None:
    with pytest.raises(Missing), _from_debian(NOWHERE):
        pass


def test_a_server_that_ends_at_once_is_missing_with_its_last_words() -> None:
    def start(program: str, folder: Path, port: int) -> Sequence[str]:
        return ["sh", "-c", "echo out of order; exit 1"]

    with pytest.raises(Missing, match="out of order"), _installed(replace(REDIS, program="sh", start=start)):
        pass


def test_a_private_redis_answers_and_is_gone_afterwards() -> None:
    with provided(REDIS) as address:
        port = urlsplit(address).port
        assert port not in {None, 6379}
        with socket.create_connection(("127.0.0.1", port or 0), timeout=5) as connection:
            connection.sendall(b"CONFIG GET maxmemory-policy\r\n")
            assert b"noeviction" in connection.recv(200)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port or 0), timeout=5)
