"""Small documents of one kind in the run store, written for certain: an unknown outcome is found out."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncGenerator, Collection
from typing import Final

from flowcraft.errors import UnknownOutcome
from flowcraft.model import Change, NewRun, RunSummary, StoredHead, ValueKey
from flowcraft.ports import Clock, RunStore
from flowcraft.writing import backoff

__all__ = ["Documents"]

_LOG = logging.getLogger("flowcraft.documents")
_ATTEMPTS: Final = 8
_PAGE: Final = 100


class Documents:
    """One kind of documents. Every write has a token of its own, by which it is recognised."""

    def __init__(self, store: RunStore, clock: Clock, kind: str) -> None:
        self._store = store
        self._clock = clock
        self.kind = kind

    async def load(self, document_id: str, *, want: Collection[ValueKey] = ()) -> StoredHead | None:
        """The document with the wanted values; None if there is none."""
        return await self._store.load(document_id, want=want, kind=self.kind)

    async def create(self, new: NewRun) -> bool:
        """Whether this call made it; False if its id is taken.

        Raises:
            UnknownOutcome: the store did not say, again and again.
        """
        attempt = 0
        while True:
            try:
                return (await self._store.create(new)).token == new.token
            except UnknownOutcome as error:
                attempt += 1
                await self._wait(attempt, error)

    async def change(self, change: Change) -> bool:
        """Whether it was applied; False if the document is another version by now, or gone. Raises as `create`."""
        attempt = 0
        while True:
            try:
                [result] = await self._store.commit([change])
                return result.applied or (result.stored is not None and result.stored.token == change.token)
            except UnknownOutcome as error:
                stored = await self.load(change.run_id)
                if stored is None or stored.version != change.version:
                    return stored is not None and stored.token == change.token
                attempt += 1
                await self._wait(attempt, error)

    async def delete(self, document_id: str, token: str) -> bool:
        """Whether it is gone; False if it has another token by now. Raises as `create`."""
        attempt = 0
        while True:
            try:
                return await self._store.delete(document_id, token, kind=self.kind)
            except UnknownOutcome as error:
                attempt += 1
                await self._wait(attempt, error)

    async def due(self, now: float, *, pages: int | None = None) -> AsyncGenerator[tuple[RunSummary, ...]]:
        """What is due at ``now``, earliest first, a page at a time; at most so many pages."""
        after: str | None = None
        while pages is None or pages > 0:
            page = await self._store.due(now, kind=self.kind, limit=_PAGE, after=after)
            yield page.items
            after, pages = page.after, None if pages is None else pages - 1
            if after is None:
                return

    async def _wait(self, attempt: int, error: UnknownOutcome) -> None:
        if attempt == _ATTEMPTS:
            raise error
        _LOG.warning("asking again about a document of kind %s: %s", self.kind, error)
        await self._clock.sleep(backoff(attempt, random.random()))  # noqa: S311 - it only spreads load
