"""The handle of a run: wait for its result, look at it, steer it, cancel it, watch it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

from flowcraft.codec import Codec
from flowcraft.committer import Committer
from flowcraft.engine.draft import MISSING
from flowcraft.engine.transition import Cancel
from flowcraft.engine.view import RunView, run_view
from flowcraft.errors import AdapterError, RunNotFound, Unavailable
from flowcraft.folding import Applied, Gone
from flowcraft.graph import Graph
from flowcraft.history import view_at
from flowcraft.model import TERMINAL, Event, RunStatus, ValueKey
from flowcraft.notes import LogRecord, Progress, read_logs, read_progress
from flowcraft.ports import ENDS, Clock, EventBus, RunStore
from flowcraft.results import RunResult, build_result, result_keys
from flowcraft.runstate import Graphs
from flowcraft.sealing import open_event, open_text
from flowcraft.steering import Steering

__all__ = ["LOOK_SECONDS", "RunAccess", "RunHandle"]

_LOG = logging.getLogger("flowcraft.client")
#: Without an event a waiting reader looks at the store so often.
LOOK_SECONDS: Final = 5.0
#: A run that had ended goes on.
_REOPENS: Final = frozenset({"run:restarted", "run:undoing"})


@dataclass(frozen=True, slots=True)
class RunAccess:
    """What handles need, shared by all of a process."""

    committer: Committer
    store: RunStore
    events: EventBus | None
    codec: Codec
    clock: Clock
    graphs: Graphs
    names_of: Callable[[Graph], Callable[[object], str] | None]
    payload_of: Callable[[Graph, str], Any]


class RunHandle(Steering):
    """One run, whoever started it. Holds nothing open."""

    def __init__(self, run_id: str, access: RunAccess) -> None:
        super().__init__(run_id, access)
        self._access = access

    def __repr__(self) -> str:
        return f"RunHandle({self.run_id!r})"

    async def view(self) -> RunView:
        """The run as it is stored now: its status and that of every node.

        Raises:
            RunNotFound: there is no such run.
        """
        return (await self._look())[1]

    async def status(self) -> RunStatus:
        """The run's status. Raises as `view`."""
        return (await self.view()).status

    async def cancel(self, reason: str = "") -> bool:
        """End the run as cancelled: nothing new begins, what runs is cancelled. False if it was ending already.

        Raises:
            RunNotFound: there is no such run.
        """
        result = await self._access.committer.submit(self.run_id, Cancel(reason))
        if isinstance(result, Gone):
            raise self._not_found()
        return isinstance(result, Applied)

    async def result(self, timeout: float | None = None) -> RunResult:
        """Wait until the run has ended, in whatever way. ``timeout`` in seconds; None waits for ever.

        Woken by the event bus; while nothing is heard it looks at the store every five seconds, no more often.

        Raises:
            TimeoutError: it has not ended in time; the run goes on. RunNotFound: there is no such run.
        """
        clock = self._access.clock
        until = None if timeout is None else clock.monotonic() + timeout
        async with AsyncExitStack() as stack:
            source = await self._subscribe(stack, ends=True)
            ended = asyncio.ensure_future(_until_the_end(source))
            stack.push_async_callback(_cancel, ended)
            while True:
                try:
                    graph, view = await self._look()
                    if view.status in TERMINAL:
                        return await self._build(graph, view)
                except Unavailable as error:  # whoever waits can wait for the store as well
                    _LOG.warning("still waiting: %s", error, extra={"run_id": self.run_id})
                now = clock.monotonic()
                if until is not None and now >= until:
                    raise TimeoutError(f"run {self.run_id!r} has not ended within {timeout} s")
                limit = asyncio.ensure_future(
                    clock.sleep(LOOK_SECONDS if until is None else min(LOOK_SECONDS, until - now))
                )
                try:
                    # An end that was heard once is not waited for again: then the store decides, every few seconds.
                    await asyncio.wait({limit} if ended.done() else {limit, ended}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    limit.cancel()

    async def history(self, after: int = 0) -> Sequence[Event]:
        """The stored events with numbers above ``after``, in order; empty where the store keeps no history.

        Where values are encrypted, so are texts in events; without the key they are ``(encrypted)``.
        """
        found: list[Event] = []
        while True:
            page = await self._access.store.read_events(self.run_id, after)
            found += [open_event(self._access.codec, event.told()) for event in page.items]
            if page.after is None or not page.items:
                return found
            after = page.items[-1].seq

    async def state_at(self, seq: int) -> RunView:
        """The run as it was after the commit that event number ``seq`` belongs to.

        States of nodes, status and failures are exact. A node's ``output`` is the key of what it had come to then, and
        None if that is not stored any more: of a node that runs again and again the latest output is kept. What context
        keys held at that time is not known: they are overwritten.

        Raises:
            RunNotFound: there is no such run. InvalidRequest: it has no such event, or the store keeps no history.
            SerializationError: the history is damaged, or an earlier version wrote it.
        """
        await self._look()
        view = await view_at(self._access.store, self._access.graphs, self.run_id, seq)
        return replace(view, cause=open_text(self._access.codec, view.cause)) if view.cause else view

    async def logs(self, node: str | None = None) -> Sequence[LogRecord]:
        """What nodes told ``ctx.log``, all of them or one, in order of time.

        They are kept with the outcome of an execution, so those of one that still runs, or died, are not there. Of an
        execution the latest 200, of a run the latest 2,000; what is older is gone.

        Raises:
            RunNotFound: there is no such run.
        """
        return read_logs(await self._said(), node)

    async def progress(self) -> Mapping[str, Progress]:
        """The last ``ctx.progress`` of each node that told any, kept as `logs` are; `watch` has it while it is told.

        Raises:
            RunNotFound: there is no such run.
        """
        return read_progress(await self._said())

    async def _said(self) -> list[object]:
        """All of the space ``log``, oldest first."""
        found = await self._access.store.read_values(self.run_id, space="log")
        if not found:
            await self._look()
        return [self._access.codec.decode(found[key]) for key in sorted(found)]

    async def watch(self, after: int = 0) -> AsyncGenerator[Event]:
        """Events from number ``after`` on as they happen, with the unnumbered hints, until the run has ended.

        Stored events come in order, each once. A slow reader misses hints, never stored events.

        Raises:
            RunNotFound: there is no such run.
        """
        keeps_history = self._access.store.capabilities.history
        async with AsyncExitStack() as stack:
            live = await self._listen(stack)
            while True:
                ended = (await self.status()) in TERMINAL  # asked before the history is read: nothing comes after
                for event in await self.history(after):
                    after = event.seq
                    yield event
                    ended = event.type in ENDS or (ended and event.type not in _REOPENS)
                if ended:
                    return
                async with aclosing(live.until(LOOK_SECONDS)) as heard:
                    async for told in heard:
                        event = open_event(self._access.codec, told)
                        if event.seq == 0:
                            yield event
                        elif event.seq == after + 1 or (event.seq > after and not keeps_history):
                            after = event.seq
                            yield event
                            if event.type in ENDS:
                                return
                        elif event.seq > after:
                            break  # a gap: the history has what is missing

    async def _look(self) -> tuple[Graph, RunView]:
        state = await self._access.committer.load(self.run_id)
        if state is None:
            raise self._not_found()
        view = run_view(state.graph, state.committed())
        return state.graph, replace(view, cause=open_text(self._access.codec, view.cause)) if view.cause else view

    async def _build(self, graph: Graph, view: RunView) -> RunResult:
        access = self._access
        keys = result_keys(view)
        values = await access.store.read_values(self.run_id, keys) if keys else {}
        context = await access.store.read_values(self.run_id, space="context")
        decode = access.codec.decode

        def read(key: ValueKey) -> object:
            return decode(values[key]) if key in values else MISSING

        shared = {key.name: decode(data) for key, data in context.items()}
        said = await self._said() if view.logged else []
        return build_result(self.run_id, view, read, shared, access.names_of(graph), said)

    async def _listen(self, stack: AsyncExitStack) -> _Live:
        live = _Live(self._access.clock, await self._subscribe(stack))
        stack.push_async_callback(live.aclose)
        return live

    async def _subscribe(self, stack: AsyncExitStack, *, ends: bool = False) -> AsyncIterator[Event] | None:
        """The run's live events, or only its ends, until the stack closes; None without a bus, or with a dead one."""
        if self._access.events is None:
            return None
        try:
            return await stack.enter_async_context(self._access.events.subscribe(run_id=self.run_id, ends=ends))
        except AdapterError as error:  # the bus is only a hint: looking every now and then serves as well
            _LOG.warning("no live events: %s", error, extra={"run_id": self.run_id})
            return None

    def _not_found(self) -> RunNotFound:
        return RunNotFound(f"there is no run {self.run_id!r}: it never was, or its retention time is over")


class _Live:
    """Events of a subscription with a time limit. A pending read is kept: cancelling it could lose an event."""

    def __init__(self, clock: Clock, source: AsyncIterator[Event] | None) -> None:
        self.source = source
        self._clock = clock
        self._pending: asyncio.Future[Event] | None = None

    async def next(self, seconds: float) -> Event | None:
        """The next event, or None after so many seconds."""
        sleeper = asyncio.ensure_future(self._clock.sleep(max(0.0, seconds)))
        try:
            if self.source is None:
                await sleeper
                return None
            if self._pending is None:
                self._pending = asyncio.ensure_future(anext(self.source))
            either: set[asyncio.Future[Any]] = {self._pending, sleeper}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not self._pending.done():
                return None
            done, self._pending = self._pending, None
            return done.result()
        except (StopAsyncIteration, AdapterError):
            self.source = None  # the bus has gone; from now on only the time limit ends a wait
            return await self.next(seconds)
        finally:
            sleeper.cancel()

    async def until(self, seconds: float) -> AsyncGenerator[Event]:
        """Events, until there was none for so many seconds."""
        while (event := await self.next(seconds)) is not None:
            yield event

    async def aclose(self) -> None:
        """Give up the pending read."""
        if self._pending is not None:
            self._pending.cancel()
            await asyncio.gather(self._pending, return_exceptions=True)
            self._pending = None


async def _until_the_end(source: AsyncIterator[Event] | None) -> None:
    """Return when one of its ends is heard; never, if nothing is heard."""
    try:
        if source is not None:
            async for _ in source:
                return
    except AdapterError as error:
        _LOG.warning("no live events any more: %s", error)
    await asyncio.Event().wait()


async def _cancel(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
