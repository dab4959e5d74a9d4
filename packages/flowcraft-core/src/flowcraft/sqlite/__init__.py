"""The SQLite backend: every port in one file, shared by any number of processes of one machine. Nothing to install.

Why a writer thread: SQLite has one writer at a time, and a sync of the disk costs more than a hundred changes. All that
waits while the disk is busy becomes the next transaction, so the rate grows with the number of waiting callers.
"""

from flowcraft.sqlite.adapter import SqliteAdapter, open_adapter
from flowcraft.sqlite.backend import SqliteBackend
from flowcraft.sqlite.coordination import SqliteCoordination
from flowcraft.sqlite.events import SqliteEventBus
from flowcraft.sqlite.queue import SqliteJobQueue
from flowcraft.sqlite.store import SqliteRunStore
from flowcraft.sqlite.values import SqliteValueStore

__all__ = [
    "SqliteAdapter",
    "SqliteBackend",
    "SqliteCoordination",
    "SqliteEventBus",
    "SqliteJobQueue",
    "SqliteRunStore",
    "SqliteValueStore",
    "open_adapter",
]
