"""Running again: a new run takes over what another one had come to before a node, and goes on from there."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from flowcraft.blueprint import check_id
from flowcraft.client import Client
from flowcraft.engine.draft import MISSING, Cell, Draft
from flowcraft.engine.head import Head
from flowcraft.engine.takeover import abandon, take_over, taken, why_no_input, why_not_from
from flowcraft.engine.transition import seal
from flowcraft.errors import (
    CommandRefused,
    DefinitionError,
    InvalidRequest,
    Misconfigured,
    PayloadTooLarge,
    RunConflict,
    RunNotFound,
    Unavailable,
)
from flowcraft.graph import Graph
from flowcraft.model import NewRun, Space, StoredHead, ValueKey
from flowcraft.ports import RunStore
from flowcraft.runs import RunAccess, RunHandle
from flowcraft.runstate import unpack_head
from flowcraft.signals import name_of
from flowcraft.starting import new_run

__all__ = ["UNCHANGED", "Reruns"]

#: Stands for "the input that it had", which is not the input None.
UNCHANGED: Final = MISSING
#: What taking over may ask for. Webhooks and logs belong to the run that they were for.
_SPACES: Final[tuple[Space, ...]] = ("context", "output", "input", "error", "item", "result", "signal")
#: A run that changes while it is read is read again, so often.
_READS: Final = 10


@dataclass(frozen=True, slots=True)
class _Asked:
    """A rerun that was checked and encoded. ``given`` is MISSING if the node gets what it had."""

    run_id: str
    from_node: str
    new_run_id: str
    fingerprint: str
    given: Cell
    context: Mapping[str, bytes]


class Reruns:
    """Made by an `Adapter`; needs no worker in its process."""

    def __init__(self, client: Client, access: RunAccess, store: RunStore) -> None:
        self._client = client
        self._access = access
        self._store = store

    async def start(
        self, run_id: str, from_node: object, *, input: object, context: Mapping[str, object], new_run_id: str | None
    ) -> RunHandle:
        """See `Adapter.rerun`."""
        codec = self._access.codec
        given: Cell = MISSING if input is UNCHANGED else codec.encode(input)
        keys = {check_id(key, "context key"): codec.encode(value) for key, value in context.items()}
        chosen = secrets.token_hex(16) if new_run_id is None else check_id(new_run_id, "run id")
        node_id = await self._name(check_id(run_id, "run id"), from_node)
        changed = [part for pair in sorted(context.items()) for part in pair]
        told = ("rerun", run_id, node_id, given is not MISSING, None if given is MISSING else input, *changed)
        asked = _Asked(run_id, node_id, chosen, codec.fingerprint(*told), given, keys)
        made = None if new_run_id is None else await self._store.load(chosen)
        found = await self._make(asked) if made is None else made.fingerprint  # the other run may be gone by now
        if not self._client.same(told, asked.fingerprint, found):
            text = f"run {chosen!r} exists, and is no rerun of {run_id!r} from {node_id!r} with these values"
            raise RunConflict(text)
        return RunHandle(chosen, self._access)

    async def _make(self, asked: _Asked) -> str:
        """The fingerprint of the run that is there now."""
        stored, values = await self._read(asked.run_id)
        graph = await self._graph(stored)
        await self._client.keep(graph)
        if self._access.committer.time.stale:
            await self._access.committer.time.sync()
        created = await self._client.create(self._plan(asked, graph, unpack_head(stored.head)[1], values))
        return asked.fingerprint if created.made else created.fingerprint

    async def _name(self, run_id: str, node: object) -> str:
        """The id of a node that may be given as function or class."""
        if isinstance(node, str):
            return node
        stored = await self._store.load(run_id)
        if stored is None:
            raise _not_found(run_id)
        graph = await self._graph(stored)
        try:
            return name_of(node, self._access.names_of(graph))
        except DefinitionError as error:
            raise CommandRefused(f"run {run_id!r}: {error}", reason=str(error)) from error

    async def _graph(self, stored: StoredHead) -> Graph:
        content_hash = unpack_head(stored.head)[0]
        try:
            return await self._access.graphs.get(content_hash)
        except Misconfigured as error:
            told = f"run {stored.run_id!r} cannot be run again: its blueprint {content_hash} is neither here nor stored"
            raise Misconfigured(told) from error

    async def _read(self, run_id: str) -> tuple[StoredHead, Mapping[ValueKey, bytes]]:
        """A run with its values, as of one moment: every write gives it another token."""
        stored = await self._store.load(run_id)
        for attempt in range(1, _READS + 1):
            if stored is None:
                raise _not_found(run_id)
            values: dict[ValueKey, bytes] = {}
            for space in _SPACES:
                values.update(await self._store.read_values(run_id, space=space))
            before, stored = stored, await self._store.load(run_id)
            if stored is not None and stored.token == before.token:
                return stored, values
            await self._access.clock.sleep(random.random() * 0.002 * 2.0**attempt)  # noqa: S311 - it only spreads load
        raise Unavailable(f"run {run_id!r} changes faster than it can be read: pause it, and try again")

    def _plan(self, asked: _Asked, graph: Graph, head: Head, values: Mapping[ValueKey, bytes]) -> NewRun:
        """The new run. ``head`` is a copy of the other one's."""
        codec, committer = self._access.codec, self._access.committer
        if head.phase == "undoing":
            raise _refused(asked.run_id, "it is being rolled back: wait until that is over")
        if asked.from_node not in graph.index:
            raise _refused(asked.run_id, f"blueprint {graph.blueprint.id!r} has no node {asked.from_node!r}")
        node = graph.index[asked.from_node]
        draft = Draft(
            graph, head, read=lambda key: values.get(key, MISSING), encode=codec.encode, record=True,
            decode=lambda cell: codec.decode(cast("bytes", cell)), times=committer.rules.times,
        )  # fmt: skip
        draft.begin(secrets.token_hex(8), committer.time.now())
        abandon(draft)
        if why := why_not_from(graph, head, node):
            raise _refused(asked.run_id, f"it cannot run again from node {asked.from_node!r}: {why}")
        if asked.given is not MISSING and (why := why_no_input(graph, node)):
            raise InvalidRequest(f"run {asked.run_id!r}: no input can be given to node {asked.from_node!r}: {why}")
        take_over(draft, node, asked.run_id, asked.given, asked.context)
        effects = seal(draft)
        kept = {key: data for key, data in taken(graph, head, values).items() if key not in effects.deleted}
        new = new_run(draft, effects, asked.new_run_id, asked.fingerprint, rules=committer.rules, values=kept)
        self._check_size(asked.run_id, new)
        return new

    def _check_size(self, origin: str, new: NewRun) -> None:
        """A run is made in one step, with all that it takes over."""
        limits = self._store.capabilities
        history = new.events if limits.history else ()
        items = 1 + len(new.values) + len(new.jobs) + len(history)
        size = len(new.head) + sum(map(len, new.values.values())) + sum(len(event.head) for event in history)
        most_items, most_bytes = limits.max_commit_items, limits.max_commit_bytes
        if (most_items is not None and items > most_items) or (most_bytes is not None and size > most_bytes):
            most = (
                f"{most_items} items"
                if most_bytes is None
                else f"{most_items or 'any number of'} items and {most_bytes:,} bytes"
            )
            told = (
                f"to take over run {origin!r} takes {items} items and {size:,} bytes in one step; the store's limit is"
            )
            raise PayloadTooLarge(f"{told} {most}: start it anew, or run again from an earlier node")


def _not_found(run_id: str) -> RunNotFound:
    return RunNotFound(f"there is no run {run_id!r}: it never was, or its retention time is over")


def _refused(run_id: str, reason: str) -> CommandRefused:
    return CommandRefused(f"run {run_id!r}: {reason}", reason=reason)
