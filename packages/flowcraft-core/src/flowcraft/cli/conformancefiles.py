"""What ``flowcraft conformance init`` writes. The files work as they are: they check the memory backend."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from flowcraft.cli.failures import TROUBLE, CommandError

__all__ = ["write_files"]

_TARGET: Final = '''\
"""The backend under test. Replace what is marked with TODO; addresses and secrets belong into the environment."""

from collections.abc import AsyncGenerator, Sequence

from flowcraft.conformance import Place, Ports, target
from flowcraft.memory import MemoryBackend  # TODO: your ports

BACKENDS: dict[str, MemoryBackend] = {}


async def leftovers(place: Place) -> Sequence[str]:
    """The names of all that is stored in the place."""
    return []  # TODO: list keys, rows or messages whose names begin with place.namespace


async def drop(place: Place) -> None:
    """Remove the place with all that is in it."""
    BACKENDS.pop(place.namespace, None)  # TODO: delete what `leftovers` names


@target(
    "my-backend",
    offers=["store", "queue", "coordination", "events", "values", "system"],  # TODO: what you have
    virtual_time=True,  # TODO: False, if any port takes the time from somewhere else than place.clock
    leftovers=leftovers,
    drop=drop,
    deviations={},  # TODO: check id -> why it does not hold, and where that is tracked
)
async def backend(place: Place) -> AsyncGenerator[Ports]:
    """Open the ports of one place. All that they store is under place.namespace: never flush, never share."""
    opened = BACKENDS.setdefault(place.namespace, MemoryBackend(place.clock))  # TODO: connect, and call setup()
    opened.store.bind(opened.queue)
    yield Ports(opened.store, opened.queue, opened.coordination, opened.events, opened.values)
    # TODO: close what you opened
'''
_STORE_TARGET: Final = '''\
"""The run store under test, with the other ports in a file of SQLite beside it. Replace what is marked with TODO."""

import shutil
import tempfile
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from flowcraft.conformance import Place, Ports, target
from flowcraft.memory import MemoryRunStore  # TODO: your store
from flowcraft.sqlite import SqliteBackend

STORES: dict[str, MemoryRunStore] = {}


def folder(place: Place) -> Path:
    """Where the file lies; an embedded store may lie beside it."""
    return Path(tempfile.gettempdir(), "my-store", place.namespace)


async def leftovers(place: Place) -> Sequence[str]:
    """The names of all that the store has in the place."""
    return []  # TODO: list keys or rows whose names begin with place.namespace


async def drop(place: Place) -> None:
    """Remove the place with all that is in it."""
    STORES.pop(place.namespace, None)  # TODO: delete what `leftovers` names
    shutil.rmtree(folder(place), ignore_errors=True)


@target(
    "my-store",
    offers=["store", "queue", "coordination", "events", "system"],
    virtual_time=True,  # TODO: False, if the store takes the time from somewhere else than place.clock
    leftovers=leftovers,
    drop=drop,
    deviations={},  # TODO: check id -> why it does not hold, and where that is tracked
)
async def backend(place: Place) -> AsyncGenerator[Ports]:
    """Open the ports of one place. All that they store is under place.namespace: never flush, never share."""
    folder(place).mkdir(parents=True, exist_ok=True)
    store = STORES.setdefault(place.namespace, MemoryRunStore(place.clock))  # TODO: connect
    await store.setup()
    async with SqliteBackend.open(folder(place) / "others.db", clock=place.clock) as others:
        yield Ports(store, others.queue, others.coordination, others.events)
    await store.aclose()
'''
_TESTS: Final = '''\
"""The conformance suite with pytest: one test for each check."""

import pytest
from conformance_target import backend

from flowcraft.conformance.suite import Conformance


@pytest.mark.usefixtures("service")
class TestMyBackend(Conformance):
    target = backend
'''
_FIXTURE: Final = '''\
"""The service that the backend needs: the one of MY_BACKEND_URL, or else a container for as long as the tests last."""

import os
from collections.abc import Iterator

import pytest

IMAGE = ""  # TODO: for instance "redis:7"; empty: no service is needed
PORT = 0  # TODO: the port that it listens on


@pytest.fixture(scope="session")
def service() -> Iterator[str]:
    """The address; also in MY_BACKEND_URL, where the target finds it."""
    if not IMAGE or "MY_BACKEND_URL" in os.environ:
        yield os.environ.get("MY_BACKEND_URL", "")
        return
    testcontainers = pytest.importorskip("testcontainers.core.container", reason="pip install testcontainers")
    with testcontainers.DockerContainer(IMAGE).with_exposed_ports(PORT) as container:
        address = f"{container.get_container_host_ip()}:{container.get_exposed_port(PORT)}"
        os.environ["MY_BACKEND_URL"] = address
        yield address
'''
_WORKFLOW: Final = """\
name: conformance
on: [push, pull_request]
jobs:
  conformance:
    runs-on: ubuntu-latest
    # services:            # TODO: the service that your backend needs
    #   redis: {image: "redis:7", ports: ["6379:6379"]}
    # env: {MY_BACKEND_URL: "localhost:6379"}
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {python-version: "3.11"}
      - run: pip install -e . "flowcraft-core[conformance]"
      # Pin the profile: later versions of the suite then never meet you with checks that you did not ask for.
      - run: >
          flowcraft conformance run conformance_target.py:backend --profile 2026.1
          --json conformance.json --junit conformance.xml --markdown conformance.md
      - if: always()
        uses: actions/upload-artifact@v4
        with: {name: conformance, path: "conformance.*"}
"""
FILES: Final[Mapping[str, str]] = {
    "conformance_target.py": _TARGET,
    "test_conformance.py": _TESTS,
    "conftest.py": _FIXTURE,
    ".github/workflows/conformance.yml": _WORKFLOW,
}


def write_files(folder: Path, *, store_alone: bool = False) -> list[Path]:
    """Write them all, or none; returns their paths. ``store_alone``: for a run store with core ports beside it.

    Raises:
        CommandError: one is there already, or cannot be written.
    """
    files = {**FILES, "conformance_target.py": _STORE_TARGET} if store_alone else FILES
    taken = [name for name in files if (folder / name).exists()]
    if taken:
        raise CommandError(f"{folder / taken[0]} exists; nothing was written (choose another folder)")
    try:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write to {folder}: {error.strerror or error}", TROUBLE) from error
    return [folder / name for name in files]
