"""Reading and writing transactions: what waits is one transaction, each operation a savepoint of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from flowcraft.errors import AdapterError, Unavailable, UnknownOutcome
from flowcraft.sqlite.failures import is_busy, is_full, translate
from flowcraft.sqlite.lane import Operation
from flowcraft.sqlite.schema import connect, patiently, prepare

__all__ = ["Reader", "Writer"]


class Reader:
    """Runs a batch of reads on one snapshot, which holds everything committed before the batch began."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection

    def open(self) -> None:
        """See `Runner`."""
        # A reader waits only while a process that came after a crash reads the log.
        self._connection = connect(self._path, busy_timeout=5.0)
        self._connection.execute("PRAGMA query_only = ON")

    def close(self) -> None:
        """See `Runner`."""
        self._connection.close()

    def run(self, batch: Sequence[Operation[Any]]) -> None:
        """See `Runner`."""
        connection = self._connection
        try:
            connection.execute("BEGIN")
        except sqlite3.Error as error:
            _fail(batch, error, self._path)
            return
        for operation in batch:
            try:
                operation.result = operation.work(connection)
                operation.error = None
            except Exception as error:  # noqa: BLE001 -- whatever it is, the caller gets it
                _fail([operation], error, self._path)
        if connection.in_transaction:
            connection.execute("ROLLBACK")


class Writer:
    """Runs a batch of writes in one transaction with one sync of the disk.

    ``busy_limit``: seconds to wait for the lock of another process.
    """

    def __init__(self, path: str, *, busy_limit: float) -> None:
        self._path = path
        self._busy_limit = busy_limit
        self._connection: sqlite3.Connection
        self._durable = True
        self._lost = False

    def open(self) -> None:
        """See `Runner`."""
        connection = connect(self._path, busy_timeout=0.0)
        try:
            patiently(lambda: prepare(connection, self._path), self._busy_limit)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._durable = True
        self._lost = False

    def close(self) -> None:
        """See `Runner`."""
        self._connection.close()

    def run(self, batch: Sequence[Operation[Any]]) -> None:
        """See `Runner`."""
        # Whoever was cancelled before we began gets what cancelling promises: nothing happened.
        batch = [op for op in batch if op.future is None or not op.future.cancelled()]
        if not batch:
            return
        try:
            if self._lost:
                self.open()
            durable = any(op.durable for op in batch)
            patiently(lambda: self._begin(durable=durable), self._busy_limit)
        except (sqlite3.Error, AdapterError) as error:
            _fail(batch, error, self._path)
            return
        for position, operation in enumerate(batch):
            if not self._apply(operation):
                # SQLite gave up the whole transaction, not only this operation: the others go again, without it.
                self.run([*batch[:position], *batch[position + 1 :]])
                return
        self._commit(batch)

    def _begin(self, *, durable: bool) -> None:
        # Losing the latest deliveries or leases in a power cut harms no run; losing a commit would. In NORMAL the log
        # is not synced by each transaction, but a later FULL one syncs all before it.
        if durable != self._durable:
            self._connection.execute("PRAGMA synchronous = FULL" if durable else "PRAGMA synchronous = NORMAL")
            self._durable = durable
        self._connection.execute("BEGIN IMMEDIATE")

    def _apply(self, operation: Operation[Any]) -> bool:
        """Run it in a savepoint; False if the transaction is gone."""
        connection = self._connection
        try:
            connection.execute("SAVEPOINT operation")
            operation.result = operation.work(connection)
            connection.execute("RELEASE operation")
            operation.error = None
        except Exception as error:  # noqa: BLE001 -- whatever it is, the caller gets it, and the others go on
            _fail([operation], error, self._path)
            return self._undo()
        return True

    def _undo(self) -> bool:
        connection = self._connection
        if not connection.in_transaction:
            return False
        try:
            connection.execute("ROLLBACK TO operation")
            connection.execute("RELEASE operation")
        except sqlite3.Error:
            self._recover()
            return False
        return True

    def _commit(self, batch: Sequence[Operation[Any]]) -> None:
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._recover()
            if len(batch) > 1 and is_full(error):
                # There was no room for all of them together; there may be for some.
                for operation in batch:
                    self.run([operation])
            elif is_full(error) or is_busy(error) or not isinstance(translate(error, self._path), Unavailable):
                _fail(batch, error, self._path)
            else:
                # A commit whose last write or sync failed may be found complete after a crash.
                text = f"the SQLite file {self._path!r} did not confirm a commit ({error})"
                for operation in batch:
                    operation.error = UnknownOutcome(text)
                    operation.error.__cause__ = error

    def _recover(self) -> None:
        """Leave no transaction open after trouble; if that fails, the next batch begins with a new connection."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._connection.close()
            self._lost = True


def _fail(batch: Sequence[Operation[Any]], error: Exception, path: str) -> None:
    for operation in batch:
        operation.error = translate(error, path)
        if operation.error is not error:
            operation.error.__cause__ = error
