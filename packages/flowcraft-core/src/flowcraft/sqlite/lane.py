"""One thread with one connection: operations come from the event loop, run in batches, and answer in one step."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from flowcraft.errors import Misconfigured, Unavailable, UnknownOutcome
from flowcraft.sqlite.failures import translate

__all__ = ["Lane", "Operation", "Work"]

_T = TypeVar("_T")
#: What an operation does with the connection, in the thread.
Work = Callable[[sqlite3.Connection], _T]
_BATCH = 512  # bounds how long the first of a batch waits for the last
_NOT_RUN = Unavailable("the operation was cancelled before it began")


class Operation(Generic[_T]):
    """Work, and what came of it. ``then`` is called in the loop with the result, even if nobody waits any more."""

    __slots__ = ("durable", "error", "future", "result", "then", "work")

    def __init__(
        self, work: Work[_T], future: asyncio.Future[_T] | None, then: Callable[[_T], None] | None, *, durable: bool
    ) -> None:
        self.work = work
        self.future = future
        self.then = then
        self.durable = durable
        self.result: Any = None
        self.error: Exception | None = _NOT_RUN

    def settle(self) -> None:
        """In the loop: tell whoever waits."""
        if self.error is None and self.then is not None:
            self.then(self.result)
        future = self.future
        if future is None or future.done():
            return
        if self.error is not None:
            future.set_exception(self.error)
        else:
            future.set_result(self.result)


class Runner(Protocol):
    """What a lane does in its thread."""

    def open(self) -> None:
        """Open the connection."""

    def run(self, batch: Sequence[Operation[Any]]) -> None:
        """Give every operation a result or an error; does not raise."""

    def close(self) -> None:
        """Close the connection."""


class Lane:
    """Runs what is submitted, in order, all that waits as one batch. The thread lives from `start` to `close`."""

    def __init__(self, name: str, path: str, runner: Runner) -> None:
        self._path = path
        self._runner = runner
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[Operation[Any] | None] = queue.SimpleQueue()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._closing = False
        # A daemon: a program that forgets to close must be able to end, and every commit is complete in the file.
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    async def start(self) -> None:
        """Start the thread; raises what opening the connection raised."""
        opened: asyncio.Future[None] = self._loop.create_future()
        self._waiting.put(Operation(lambda _: None, opened, None, durable=False))
        self._thread.start()
        try:
            await opened
        except BaseException:
            await self.close()
            raise

    def submit(self, operation: Operation[Any]) -> None:
        """Run this after everything that was submitted before."""
        if self._closing:
            raise Misconfigured(f"the backend of the SQLite file {self._path!r} is closed")
        self._waiting.put(operation)

    async def close(self) -> None:
        """Run what was submitted, close the connection and end the thread. May be repeated."""
        if not self._closing:
            self._closing = True
            self._waiting.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    def _main(self) -> None:
        try:
            self._runner.open()
        except Exception as error:  # noqa: BLE001 -- whatever it is, `start` raises it in the loop
            self._fail(error)
        else:
            while self._step():
                pass
            self._runner.close()
        self._tell(lambda: self._ended.set_result(None))

    def _step(self) -> bool:
        first = self._waiting.get()
        if first is None:
            return False
        batch = [first]
        going = True
        while going and len(batch) < _BATCH:
            try:
                operation = self._waiting.get_nowait()
            except queue.Empty:
                break
            if operation is None:
                going = False
            else:
                batch.append(operation)
        try:
            self._runner.run(batch)
        except Exception as error:  # noqa: BLE001 -- a bug of the runner: nobody may be left waiting for ever
            for operation in batch:
                operation.error = UnknownOutcome(f"the SQLite file {self._path!r}: {error!r}")
                operation.error.__cause__ = error
        self._tell(lambda: _settle(batch))
        return going

    def _fail(self, error: Exception) -> None:
        """The connection could not be opened: all that comes gets that error, until we are closed."""
        translated = translate(error, self._path)
        if translated is not error:
            translated.__cause__ = error
        while (operation := self._waiting.get()) is not None:
            operation.error = translated
            self._tell(operation.settle)

    def _tell(self, callback: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more


def _settle(batch: Sequence[Operation[Any]]) -> None:
    for operation in batch:
        operation.settle()
