"""Dead letters in one place: messages that a queue gave up, and visits that killed their workers.

The queue keeps its messages (`JobQueue.dead_letters`). What a worker gives up, a poisoned visit, is a document of the
kind ``dead`` in the run store: queues forget, and may belong to somebody else. Neither is ever removed by itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from flowcraft.committer import Committer
from flowcraft.engine.commands import failed_nodes
from flowcraft.engine.events import Retry
from flowcraft.engine.head import Head
from flowcraft.errors import DeadLetterNotFound, InvalidRequest, NotReplayable, RunNotFound, Unavailable
from flowcraft.folding import Applied, Gone
from flowcraft.graph import Graph
from flowcraft.model import DeadLetter, Index, Job, NewRun, Page
from flowcraft.ports import JobQueue, RunStore

__all__ = ["DeadLetters", "RetryNode", "record_poisoned", "retry_failed"]

#: Runs a failed node again: gets the run and the node. What it raises is told to whoever replays.
RetryNode = Callable[[str, str], Awaitable[object]]

_KIND: Final = "dead"
#: Where an id or cursor belongs is its prefix; the rest is the queue's, or the document's id.
_MESSAGE: Final = "message:"
_VISIT: Final = "visit:"


async def record_poisoned(store: RunStore, job: Job, deaths: int, reason: str) -> None:
    """Keep that a visit was given up after so many deaths; recording it again changes nothing.

    Done before the node's failure is committed, so that none is missing; if the outcome of another worker comes first,
    there is a record of a visit that did not fail.

    Raises:
        AdapterError: it may not be recorded; do it again.
    """
    now = await store.clock()
    body = json.dumps({"job": job.to_bytes().decode(), "deaths": deaths, "reason": reason})
    new = NewRun(
        run_id=hashlib.sha256(job.claim_key.encode()).hexdigest()[:32],
        fingerprint="",
        token=job.nonce,
        head=body.encode(),
        index=Index("poisoned", None, now),
        created_at=now,
        kind=_KIND,
    )
    await store.create(new)


async def retry_failed(committer: Committer, run_id: str, node_id: str) -> None:
    """Start a node again that made its run fail. What the run says when this is committed decides.

    Raises:
        RunNotFound: there is no such run. NotReplayable: it has not ended as failed, or not because of this node.
    """

    def retry(graph: Graph, head: Head, _: float) -> Sequence[Retry]:
        node = graph.index.get(node_id, -1)
        return [Retry((node,))] if head.phase == "failed" and node in failed_nodes(graph, head) else []

    result = await committer.submit(run_id, retry)
    if isinstance(result, Gone):
        raise RunNotFound(f"there is no run {run_id!r}")
    if not isinstance(result, Applied):
        raise NotReplayable(
            f"run {run_id!r} has not ended as failed because of node {node_id!r}: there is nothing to retry (now)"
        )


class DeadLetters:
    """The dead letters of one queue and one run store. ``retry_node``: how a poisoned visit is replayed."""

    def __init__(self, queue: JobQueue, store: RunStore, retry_node: RetryNode) -> None:
        self._queue = queue
        self._store = store
        self._retry_node = retry_node

    async def list(self, limit: int = 100, after: str | None = None) -> Page[DeadLetter]:
        """Poisoned visits, newest first; then messages, oldest first as well as the broker can.

        A page may be shorter than ``limit`` with more behind it: pass its ``after`` until that is None.

        Raises:
            InvalidRequest: a limit outside 1 … 1000, or a cursor of something else.
        """
        if not 1 <= limit <= 1000:
            raise InvalidRequest(f"limit is between 1 and 1000, not {limit}")
        if after is not None and after.startswith(_MESSAGE):
            return await self._messages(limit, after.removeprefix(_MESSAGE))
        if after is not None and not after.startswith(_VISIT):
            raise InvalidRequest(f"not a cursor of dead letters: {after[:80]!r}")
        cursor = None if after is None else after.removeprefix(_VISIT)
        rows = await self._store.list(kind=_KIND, limit=limit, after=cursor)
        visits = [letter for row in rows.items if (letter := await self._visit(row.run_id)) is not None]
        if rows.after is not None:
            return Page(tuple(visits), _VISIT + rows.after)
        if len(visits) == limit:
            return Page(tuple(visits), _MESSAGE)
        messages = await self._messages(limit - len(visits), "")
        return Page((*visits, *messages.items), messages.after)

    async def get(self, letter_id: str) -> DeadLetter:
        """The dead letter with this id, as `list` gave it.

        Raises:
            DeadLetterNotFound: there is none.
        """
        found: DeadLetter | None = None
        if letter_id.startswith(_VISIT):
            found = await self._visit(letter_id.removeprefix(_VISIT))
        elif letter_id.startswith(_MESSAGE):
            found = await self._queue.dead_letter(letter_id.removeprefix(_MESSAGE))
        if found is None:
            raise DeadLetterNotFound(f"there is no dead letter {letter_id[:200]!r}: list them again")
        return replace(found, id=letter_id)

    async def replay(self, letter_id: str) -> DeadLetter:
        """Give it another chance, and remove it: a message is published again, the node of a poisoned visit retried.

        At least once: if this is interrupted, the letter is still there and may be replayed again. That repeats
        nothing: what has become of the visit meanwhile is in its run, and a message about a visit that is not due is
        acked.

        Raises:
            DeadLetterNotFound: there is none with this id. NotReplayable: this version cannot decode the message
            either; or the run of a poisoned visit has not ended as failed because of its node, which is also so when
            it was retried before. RunNotFound: that run is gone. Unavailable: the broker did not take the message.
        """
        letter = await self.get(letter_id)
        job = letter.job
        if job is None:
            raise NotReplayable(f"dead letter {letter_id!r} is no message that this version knows: {letter.reason}")
        if letter.kind == "message":
            if await self._queue.publish([replace(job, queue=letter.queue or job.queue)]):
                raise Unavailable(f"the broker did not confirm the message of dead letter {letter_id!r}; it stays")
        else:
            await self._retry_node(job.run_id, job.node)
        await self.delete(letter_id)
        return letter

    async def delete(self, letter_id: str) -> bool:
        """Remove it for good; False if there is none with this id. Its run is not touched."""
        if letter_id.startswith(_MESSAGE):
            return await self._queue.discard(letter_id.removeprefix(_MESSAGE))
        document = letter_id.removeprefix(_VISIT)
        stored = await self._store.load(document, kind=_KIND) if letter_id.startswith(_VISIT) else None
        return stored is not None and await self._store.delete(document, stored.token, kind=_KIND)

    async def _messages(self, limit: int, after: str) -> Page[DeadLetter]:
        page = await self._queue.dead_letters(limit=limit, after=after or None)
        letters = tuple(replace(letter, id=_MESSAGE + letter.id) for letter in page.items)
        return Page(letters, None if page.after is None else _MESSAGE + page.after)

    async def _visit(self, document: str) -> DeadLetter | None:
        stored = await self._store.load(document, kind=_KIND)
        if stored is None:
            return None
        row = json.loads(stored.head)
        body: bytes = row["job"].encode()
        queue = Job.from_bytes(body).queue
        return DeadLetter(
            _VISIT + document, queue, row["reason"], body, stored.index.updated_at, "poisoned", row["deaths"]
        )
