"""The client: starts runs, exactly once each, and gives handles to them."""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from flowcraft.blueprint import Blueprint, check_id
from flowcraft.codec import Codec
from flowcraft.engine.draft import MISSING, Cell, Draft
from flowcraft.engine.transition import fresh_head, seal, start
from flowcraft.errors import AdapterError, InvalidRequest, RunConflict, UnknownOutcome
from flowcraft.folding import fold_events, head_index, job_of
from flowcraft.graph import Graph
from flowcraft.model import Created, NewRun, Page, RunStatus, RunSummary, ValueKey
from flowcraft.ports import EventBus, JobQueue, RunStore
from flowcraft.registry import Definition
from flowcraft.runs import RunAccess, RunHandle
from flowcraft.runstate import RuntimeParts, pack_head
from flowcraft.writing import backoff

__all__ = ["Client"]

_LOG = logging.getLogger("flowcraft.client")
_CREATE_ATTEMPTS: Final = 8


@dataclass(frozen=True, slots=True)
class _Parent:
    """Whose subflow a run is."""

    at: tuple[str, str, int] | None = None
    depth: int = 0


_NO_PARENT: Final = _Parent()


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

    async def start_run(
        self,
        flow: Definition | Blueprint | str,
        input: object = None,
        *,
        run_id: str | None = None,
        context: Mapping[str, object] | None = None,
    ) -> RunHandle:
        """Start a run, or find the one that was started with this id, blueprint, input and context before.

        So it is safe to repeat, also by another process, as long as ``run_id`` is the caller's.

        Args:
            flow: a flow, a blueprint, or the id of one that the runtime knows.
            input: what the start nodes get.
            run_id: an id of your own; by default a random one.
            context: the run's keys at the start.

        Raises:
            RunConflict: the id belongs to a run that was started with something else. DefinitionError: an unknown or
            unworkable blueprint, or an unusable id. SerializationError: input or context cannot be stored. Unavailable:
            nothing was started. UnknownOutcome: the store does not say; repeat the call with the same id. KeyMissing:
            the id belongs to a run that was started with a key that is not here.
        """
        chosen = check_id(run_id, "run id") if run_id is not None else secrets.token_hex(16)
        return await self._start(self._runtime.resolve(flow), input, chosen, context, _NO_PARENT)

    async def start_child(
        self, blueprint_id: str, input: object, *, run_id: str, context: Mapping[str, object],
        parent: tuple[str, str, int], depth: int,
    ) -> RunHandle:  # fmt: skip
        """Start the run of a subflow, or find it. ``parent`` is the run, node and item that waits for it.

        Raises:
            As `start_run`.
        """
        return await self._start(self._runtime.resolve(blueprint_id), input, run_id, context, _Parent(parent, depth))

    async def _start(
        self, graph: Graph, input: object, chosen: str, context: Mapping[str, object] | None, parent: _Parent
    ) -> RunHandle:
        encode = self._runtime.codec.encode
        start_input = encode(input)
        keys = {check_id(key, "context key"): encode(value) for key, value in (context or {}).items()}
        named = sorted((context or {}).items())
        told = (graph.content_hash, input, *(part for pair in named for part in pair))
        if graph.content_hash not in self._saved:
            await self._store.save_blueprint(graph.content_hash, graph.blueprint.to_json().encode())
            self._saved.add(graph.content_hash)
        new = await self._plan(graph, chosen, self._runtime.codec.fingerprint(*told), start_input, keys, parent)
        await self._create(new, told)
        return RunHandle(chosen, self._access)

    async def _plan(
        self, graph: Graph, run_id: str, fingerprint: str, start_input: bytes, context: Mapping[str, bytes],
        parent: _Parent,
    ) -> NewRun:  # fmt: skip
        time, rules = self._access.committer.time, self._access.committer.rules
        if time.stale:
            await time.sync()
        now, token = time.now(), self._mint()
        head = fresh_head(graph, now)
        head.parent, head.depth = parent.at, parent.depth
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
        start(draft, start_input, context)
        effects = seal(draft)
        values: dict[ValueKey, bytes] = {key: cell for key, cell in effects.values.items() if isinstance(cell, bytes)}
        return NewRun(
            run_id=run_id,
            fingerprint=fingerprint,
            token=token,
            head=pack_head(graph.content_hash, head),
            index=head_index(head, now, rules.retention),
            created_at=now,
            blueprint_id=graph.blueprint.id,
            blueprint_hash=graph.content_hash,
            values=values,
            jobs=[job_of(graph, run_id, node, activation, rules.queue_name) for node, activation in effects.ready],
            events=fold_events(graph, run_id, head, effects, now, self._runtime.codec),
        )

    async def _create(self, new: NewRun, told: Sequence[object]) -> None:
        """``told``: what the fingerprint is of. The stored one may have been made with a key of before a rotation."""
        created = await self._certainly(new)
        known = created.made or created.fingerprint == new.fingerprint
        if not known and created.fingerprint != self._runtime.codec.fingerprint(*told, like=created.fingerprint):
            raise RunConflict(f"run {new.run_id!r} was started with another blueprint, input or context")
        if not created.made and created.token != new.token:
            return  # an earlier call made it, and published its jobs; or its ticker will
        await self._after(new)

    async def _certainly(self, new: NewRun) -> Created:
        attempt = 0
        while True:
            try:
                return await self._store.create(new)
            except UnknownOutcome as error:
                attempt += 1
                if attempt == _CREATE_ATTEMPTS:
                    raise
                _LOG.warning("asking again whether a run was made: %s", error, extra={"run_id": new.run_id})
                await self._access.clock.sleep(backoff(attempt, random.random()))  # noqa: S311 - it only spreads load

    async def _after(self, new: NewRun) -> None:
        """Ring the doorbells. The run is made: whatever is lost here, the ticker makes up for."""
        try:
            if not self._access.committer.rules.bound:
                await self._queue.publish(new.jobs)
            if self._events is not None:
                await self._events.publish(new.events)
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
