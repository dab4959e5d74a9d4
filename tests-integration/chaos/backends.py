"""The backends that a campaign can run on, by name. What is particular to one lies in its own module, ``on_<name>``."""

from __future__ import annotations

import asyncio
import importlib
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol, cast

from flowcraft import FlowRuntime
from flowcraft.adapter import Adapter
from flowcraft.errors import Unavailable

from .evidence import Outage
from .settings import Settings

__all__ = ["BACKENDS", "Site", "faults_of", "full_size", "reached", "site"]

BACKENDS = ("sqlite", "redis")


class Site(Protocol):
    """A backend as the supervisor sees it, and what can be done to it."""

    product: str
    """What it is, with its version."""

    def address(self, process: str) -> str:
        """What a process opens; that of no process (``""``) is never in trouble."""
        ...

    def locked(self) -> bool:
        """Whether somebody keeps all others from writing at this moment: a paused worker may do so all the time."""
        ...

    def messages_left(self) -> int:
        """Messages in the queue, hidden ones included."""
        ...

    def begin(self, fault: str, source: random.Random, processes: Sequence[str]) -> tuple[Outage, float] | None:
        """Do something to the backend, or to the way that some of these processes have to it; and for how many seconds.

        ``fault`` is one of its module's ``FAULTS``. None: it cannot be done at this moment.
        """
        ...

    def end(self, outage: Outage) -> None:
        """Let it be over."""
        ...


class _OnBackend(Protocol):
    FULL: Mapping[str, object]
    FAULTS: Sequence[str]

    def open_adapter(self, settings: Settings, runtime: FlowRuntime, address: str) -> Adapter: ...
    def site(self, settings: Settings) -> AbstractContextManager[Site]: ...


def site(settings: Settings) -> AbstractContextManager[Site]:
    """The backend of a campaign, for as long as the block lasts."""
    return _module(settings.backend).site(settings)


def full_size(backend: str) -> Mapping[str, object]:
    """The settings of a campaign of full size, where they are not the general ones."""
    return _module(backend).FULL


def faults_of(backend: str) -> Sequence[str]:
    """What can be done to it."""
    return _module(backend).FAULTS


@asynccontextmanager
async def reached(settings: Settings, runtime: FlowRuntime, address: str) -> AsyncGenerator[Adapter]:
    """The adapter of one process. It may start while its backend is away, as when a supervisor starts it again."""
    async with AsyncExitStack() as stack:
        while True:
            try:
                adapter = _module(settings.backend).open_adapter(settings, runtime, address)
                await stack.enter_async_context(adapter)
                break
            except Unavailable:
                await asyncio.sleep(0.1)  # before it tries again
        yield adapter


def _module(backend: str) -> _OnBackend:
    """Imported when it is chosen: the others' packages need not be there."""
    return cast("_OnBackend", importlib.import_module(f".on_{backend}", __package__))
