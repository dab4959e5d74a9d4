"""The client: starts runs, exactly once each, and gives handles to them."""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar, cast

from flowcraft.blueprint import Blueprint, check_id
from flowcraft.codec import Codec
from flowcraft.dedup import Keys, check_dedup
from flowcraft.engine.draft import MISSING, Cell, Draft
from flowcraft.engine.transition import fresh_head, seal, start
from flowcraft.errors import (
    AdapterError,
    DefinitionError,
    InvalidRequest,
    RunConflict,
    RunError,
    SerializationError,
    UnknownOutcome,
)
from flowcraft.graph import Graph
from flowcraft.model import Created, NewRun, Page, RunStatus, RunSummary
from flowcraft.ports import EventBus, JobQueue, RunStore
from flowcraft.registry import Definition
from flowcraft.runs import RunAccess, RunHandle
from flowcraft.runstate import Graphs, RuntimeParts
from flowcraft.starting import Start, new_run
from flowcraft.writing import backoff

__all__ = ["Client"]

T = TypeVar("T")
_LOG = logging.getLogger("flowcraft.client")
_CREATE_ATTEMPTS: Final = 8


class Client:
    """Made by an `Adapter`; needs no worker in its process."""

    def __init__(
        self,
        runtime: RuntimeParts,
        access: RunAccess,
        *,
        store: RunStore,
        queue: JobQueue,
        events: EventBus | None,
        mint: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._runtime = runtime
        self._access = access
        self._store = store
        self._queue = queue
        self._events = events
        self._mint = mint
        self._saved: set[str] = set()
        self.keys = Keys(store, access.clock, access.committer.time, Graphs(runtime, store), mint=mint)

    async def start_run(
        self,
        flow: Definition | Blueprint | str,
        input: object = None,
        *,
        run_id: str | None = None,
        context: Mapping[str, object] | None = None,
        dedup_key: str | None = None,
        dedup_window: float | None = None,
    ) -> RunHandle:
        """Start a run, or find the one that was started with this id, blueprint, input and context before.

        So it is safe to repeat, also by another process, as long as ``run_id`` is the caller's.

        Args:
            flow: a flow, a blueprint, or the id of one that the runtime knows.
            input: what the start nodes get.
            run_id: an id of your own; by default a random one.
            context: the run's keys at the start.
            dedup_key: the first start with this key in the store counts; every other one gets its run, whatever its
                own flow, id and input.
            dedup_window: seconds from the first start for which that holds, as the first start gave them; None: for as
                long as its run exists.

        Raises:
            RunConflict: the id belongs to a run that was started with something else. DefinitionError: an unknown or
            unworkable blueprint, or an unusable id. SerializationError: input or context cannot be stored. Unavailable:
            nothing was started. UnknownOutcome: the store does not say; repeat the call with the same id. KeyMissing:
            the id belongs to a run that was started with a key that is not here. InvalidRequest: a dedup key
            or window that cannot be.
        """
        check_dedup(dedup_key, dedup_window)
        chosen = check_id(run_id, "run id") if run_id is not None else self._runtime.token_hex(16)
        start = self._checked(self._runtime.resolve(flow), input, chosen, context or {})
        if dedup_key is not None:
            return RunHandle(await self._start_once(start, dedup_key, dedup_window), self._access)
        await self._make(start)
        return RunHandle(chosen, self._access)

    async def start_child(
        self, blueprint_id: str, input: object, *, run_id: str, context: Mapping[str, object],
        parent: tuple[str, str, int], depth: int,
    ) -> RunHandle:  # fmt: skip
        """Start the run of a subflow, or find it. ``parent`` is the run, node and item that waits for it.

        Raises:
            As `start_run`.
        """
        start = self._checked(self._runtime.resolve(blueprint_id), input, run_id, context)
        await self._make(replace(start, parent=parent, depth=depth))
        return RunHandle(run_id, self._access)

    def _checked(self, graph: Graph, input: object, run_id: str, context: Mapping[str, object]) -> Start:
        encode = self._runtime.codec.encode
        start_input = encode(input)
        keys = {check_id(key, "context key"): encode(value) for key, value in context.items()}
        told = (graph.content_hash, input, *(part for pair in sorted(context.items()) for part in pair))
        return Start(graph, run_id, self._runtime.codec.fingerprint(*told), start_input, keys, told=told)

    async def _start_once(self, start: Start, key: str, window: float | None) -> str:
        """The id of the run that the key belongs to. If that is not there, it is made, whoever took the key."""
        await self.keep(start.graph)
        held = await self.keys.take(key, window, start)
        if held.start is not None:
            try:
                await self._make(held.start)
            except (RunError, DefinitionError, SerializationError):  # so it would be each time
                await self.keys.give_up(held)
                raise
            await self.keys.made(held)
        return held.run_id

    async def _make(self, start: Start) -> None:
        created = await self.begin(start)
        if not created.made and not self.same(start.told, start.fingerprint, created.fingerprint):
            raise RunConflict(f"run {start.run_id!r} was started with another blueprint, input or context")

    def same(self, told: Sequence[object] | None, fingerprint: str, stored: str) -> bool:
        """Whether a run was made of the same; its fingerprint may have been made with a key of before a rotation.

        Raises:
            KeyMissing: it was made with a key that is not here.
        """
        if stored == fingerprint:
            return True
        return told is not None and stored == self._runtime.codec.fingerprint(*told, like=stored)

    async def begin(self, start: Start) -> Created:
        """Make the run and ring its doorbells, unless its id is taken. Raises as `start_run`, but no RunConflict."""
        await self.keep(start.graph)
        return await self.create(await self._plan(start))

    async def create(self, new: NewRun) -> Created:
        """Make a planned run and ring its doorbells, unless its id is taken. Raises as `begin`."""
        created = await self._certainly(lambda: self._store.create(new), new.run_id)
        if created.made or created.token == new.token:
            await self._after(new)
        return created  # if an earlier call made it, that one published its jobs; or its ticker will

    async def keep(self, graph: Graph) -> None:
        """Store a blueprint, if this process has not done so."""
        if graph.content_hash not in self._saved:
            text = graph.blueprint.to_json().encode()
            await self._certainly(lambda: self._store.save_blueprint(graph.content_hash, text), graph.blueprint.id)
            self._saved.add(graph.content_hash)

    async def _plan(self, asked: Start) -> NewRun:
        graph = asked.graph
        time, rules = self._access.committer.time, self._access.committer.rules
        if time.stale:
            await time.sync()
        now, token = time.now(), self._mint()
        head = fresh_head(graph, now)
        head.parent, head.depth = asked.parent, asked.depth
        codec = self._runtime.codec
        draft = Draft(
            graph,
            head,
            read=lambda _: MISSING,
            decode=_decoder(codec),
            encode=codec.encode,
            record=True,
            times=rules.times,
        )
        draft.begin(token, now)
        start(draft, asked.input, asked.context)
        if asked.parent is not None:
            draft.wake(now + rules.times.resend)  # to see whether its parent waits for it, even if it only waits itself
        return new_run(draft, seal(draft), asked.run_id, asked.fingerprint, rules=rules)

    async def _certainly(self, write: Callable[[], Awaitable[T]], what: str) -> T:
        """The answer to a write that may be repeated: if it is lost, it is asked for again."""
        attempt = 0
        while True:
            try:
                return await write()
            except UnknownOutcome as error:
                attempt += 1
                if attempt == _CREATE_ATTEMPTS:
                    raise
                _LOG.warning("asking again whether %r was stored: %s", what, error)
                await self._access.clock.sleep(backoff(attempt, random.random()))  # noqa: S311 - it only spreads load

    async def _after(self, new: NewRun) -> None:
        """Ring the doorbells. The run is made: whatever is lost here, the ticker makes up for."""
        try:
            if not self._access.committer.rules.bound:
                await self._queue.publish(new.jobs)
            if self._events is not None:
                await self._events.publish([event.told() for event in new.events])
        except AdapterError as error:
            _LOG.warning("the start of a run could not be told: %s", error, extra={"run_id": new.run_id})

    def encode(self, value: object) -> bytes:
        """A value as it is stored. Raises SerializationError."""
        return self._runtime.codec.encode(value)

    def handle(self, run_id: str) -> RunHandle:
        """The handle of a run that may or may not exist; nothing is asked."""
        return RunHandle(check_id(run_id, "run id"), self._access)

    async def get(self, run_id: str) -> RunHandle:
        """The handle of an existing run.

        Raises:
            RunNotFound: there is no such run.
        """
        handle = self.handle(run_id)
        await handle.status()
        return handle

    async def list(
        self,
        *,
        status: RunStatus | None = None,
        blueprint_id: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[RunSummary]:
        """Runs, newest first, a page at a time: pass ``after`` of one page to get the next.

        Raises:
            InvalidRequest: a limit outside 1 … 1000.
        """
        if not 1 <= limit <= 1000:
            raise InvalidRequest(f"limit is between 1 and 1000, not {limit}")
        return await self._store.list(status=status, blueprint_id=blueprint_id, limit=limit, after=after)


def _decoder(codec: Codec) -> Callable[[Cell], object]:
    return lambda cell: codec.decode(cast("bytes", cell))
