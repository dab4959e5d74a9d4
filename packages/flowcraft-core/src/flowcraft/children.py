"""Subflows, distributed: makes the run of a child, tells its parent when it has ended, and cancels it.

Nothing here is needed for correctness: what is lost with a process, the ticker of another one finds and does again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine, Sequence
from typing import Any, Final

from flowcraft.client import Client
from flowcraft.clock import wait_until_empty
from flowcraft.committer import Committer
from flowcraft.dropping import coming_child
from flowcraft.engine.events import Cancel, ChildEnded, ChildStarted, EngineEvent, Failed, Visit
from flowcraft.engine.head import DRAINING, Head
from flowcraft.engine.slots import item_of, node_of
from flowcraft.errors import AdapterError, FlowcraftError, RunConflict
from flowcraft.folding import Applied, Gone, definition_of, visit_of
from flowcraft.graph import Graph
from flowcraft.model import ErrorInfo
from flowcraft.ports import Clock
from flowcraft.results import RunResult
from flowcraft.runstate import RunState, slot_of
from flowcraft.subflows import MAX_DEPTH, blueprint_of, child_context, child_id, result_of_child, too_deep
from flowcraft.work import Work

__all__ = ["Children"]

_LOG = logging.getLogger("flowcraft.children")
_CAUSE: Final = "its parent needs it no more"
#: A parent that was seen so few seconds ago need not be looked at again.
_RECENT: Final = 1.0


class Children:
    """The subflows of a process. Create it where the ports are; `aclose` waits for what is under way."""

    def __init__(self, client: Client, committer: Committer, clock: Clock) -> None:
        self._clock = clock
        self._client = client
        self._committer = committer
        self._tasks: set[asyncio.Task[None]] = set()
        committer.on_ended = self._child_ended
        committer.on_unneeded = self._unneeded

    async def aclose(self) -> None:
        """Let what is under way finish, if it does so soon."""
        await wait_until_empty(self._tasks, self._clock, 5.0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def start(self, work: Work, given: object) -> EngineEvent:
        """Make the child of a visit, or find it, and say so.

        Raises:
            AdapterError: it is not known whether there is a child; to be repeated.
        """
        job, node = work.job, work.definition
        if work.depth >= MAX_DEPTH:
            return Failed(work.visit, too_deep(node), retryable=False)
        fallback = "" if work.runs == node_of(work.node) else node.id
        name = child_id(job.run_id, job.node, job.item, job.visit, job.attempt, fallback=fallback)
        try:
            await self._client.start_child(
                blueprint_of(node), given, run_id=name, context=child_context(node, given),
                parent=(job.run_id, job.node, job.item), depth=work.depth + 1,
            )  # fmt: skip
        except AdapterError:
            raise
        except RunConflict:
            pass  # an earlier execution of this attempt has made it, with what it read then
        except FlowcraftError as error:
            return Failed(work.visit, ErrorInfo(type(error).__name__, str(error)), retryable=False)
        await self._check_parent(work, name)
        return ChildStarted(work.visit, name)

    async def _check_parent(self, work: Work, child: str) -> None:
        """Cancel the child that was made if its parent has gone on meanwhile: nobody would ever hear of it."""
        run_id = work.job.run_id
        state = self._committer.peek(run_id, _RECENT) or await self._committer.load(run_id)
        slot = -1 if state is None else slot_of(state.graph, work.job.node, work.job.item)  # it may have been moved
        activation = None if state is None else state.committed().active.get(slot)
        fence = Visit(slot, work.job.nonce, work.job.visit, work.job.attempt)
        if activation is None or (activation.reason != child and visit_of(slot, activation) != fence):
            await self._committer.submit(child, Cancel(_CAUSE))

    async def look_after(self, state: RunState, slots: Collection[int]) -> None:
        """Find out what became of the children that these slots wait for."""
        head = state.committed()
        asked = [(slot, head.state(slot), head.active[slot].reason) for slot in slots if slot in head.active]
        for slot, standing, child in asked:
            found = await self._committer.load(child)
            if found is None:
                at = (state.graph.ids[node_of(slot)], item_of(slot))
                await self._tell(state.run_id, child, _Ended(at, _lost(child)))
            elif found.committed().terminal:
                await self._report(child)
            elif standing == DRAINING:
                await self._committer.submit(child, Cancel(_CAUSE))

    async def look_up(self, state: RunState) -> None:
        """Cancel the run of a subflow that nobody waits for, or will.

        Whoever executed the subflow may have stood still until its parent had given it up, have made this run then, and
        have died before it could look.
        """
        head = state.committed()
        if head.parent is None or head.phase != "running":
            return
        run_id, node, item = head.parent
        above = await self._committer.load(run_id)
        slot = -1 if above is None else slot_of(above.graph, node, item)
        waits = None if above is None else above.committed().active.get(slot)
        if (
            above is None
            or waits is None
            or state.run_id not in (waits.reason, coming_child(above.graph, run_id, slot, waits))
        ):
            await self._committer.submit(state.run_id, Cancel(_CAUSE))

    def _child_ended(self, run_id: str) -> None:
        self._spawn(self._report(run_id))

    def _unneeded(self, parent: str, children: Sequence[str]) -> None:
        self._spawn(self._cancel(parent, children))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._quietly(work), name="flowcraft subflows")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _quietly(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except FlowcraftError as error:
            told = error if isinstance(error, AdapterError) else type(error).__name__  # others may tell of values
            _LOG.warning("a subflow is left to the ticker: %s", told)

    async def _cancel(self, parent: str, children: Sequence[str]) -> None:
        for child in children:
            result = await self._committer.submit(child, Cancel(_CAUSE))
            if isinstance(result, Gone):  # it was never made
                await self._tell(parent, child, _Ended(None, _lost(child)))
            elif not isinstance(result, Applied):  # it has ended, or is ending
                await self._report(child)

    async def _report(self, child: str) -> None:
        """Tell the parent of a child that has ended."""
        state = await self._committer.load(child)
        if state is None or not state.committed().terminal or state.committed().parent is None:
            return
        parent = state.committed().parent
        if parent is not None:
            result = await self._client.handle(child).result()
            await self._tell(parent[0], child, _Ended((parent[1], parent[2]), None, result))

    async def _tell(self, parent: str, child: str, ended: _Ended) -> None:
        def events(graph: Graph, head: Head, now: float) -> Sequence[EngineEvent]:  # noqa: ARG001 - what is asked for
            return ended.events(self._client, graph, head, child)

        await self._committer.submit(parent, events)


def _lost(child: str) -> ErrorInfo:
    return ErrorInfo("SubflowLost", f"run {child!r} of a subflow is not there")


class _Ended:
    """What became of a child, in the words of its parent. ``at`` None: wherever it is waited for."""

    def __init__(self, at: tuple[str, int] | None, error: ErrorInfo | None, result: RunResult | None = None) -> None:
        self._at = at
        self._error = error
        self._result = result

    def events(self, client: Client, graph: Graph, head: Head, child: str) -> Sequence[EngineEvent]:
        """The event for a parent that waits for it, or nothing."""
        if self._at is not None:
            slot = slot_of(graph, *self._at)
        else:
            slot = next((slot for slot, found in head.active.items() if found.reason == child), -1)
        activation = head.active.get(slot)
        if activation is None or activation.reason != child:
            return []
        if self._result is None:
            return [ChildEnded(slot, child, error=self._error, retryable=head.state(slot) != DRAINING)]
        found = result_of_child(definition_of(graph, slot, activation), self._result)
        encode = client.encode
        writes = {key: encode(value) for key, value in (found.writes or {}).items()}
        output = None if found.error is not None else encode(found.output)
        return [ChildEnded(slot, child, output, writes, found.error, found.retryable)]
