"""The dead letters of the queue in SQLite: functions of one connection. An id is a row's number, never used again."""

from __future__ import annotations

import sqlite3
from operator import attrgetter

from flowcraft.model import DeadLetter, Page
from flowcraft.paging import letter_number, page_of
from flowcraft.sqlite import writing

__all__ = ["bury", "discard", "page", "read"]

_BURY = """INSERT INTO dead_letters (queue, reason, body, at)
    SELECT queue, ?, body, ? FROM jobs WHERE id = ? AND receipt = ?"""
_PAGE = "SELECT id, queue, reason, body, at FROM dead_letters WHERE id > ? ORDER BY id LIMIT ?"
_READ = "SELECT id, queue, reason, body, at FROM dead_letters WHERE id = ?"
_DISCARD = "DELETE FROM dead_letters WHERE id = ?"

_Row = tuple[int, str, str, bytes, float | None]


def bury(reason: str, at: float, number: int, receipt: int, connection: sqlite3.Connection) -> None:
    """Move a message to the dead letters, if the receipt is still the message's."""
    connection.execute(_BURY, (reason, at, number, receipt))
    connection.execute(writing.ACK, (number, receipt))


def page(limit: int, after: int, connection: sqlite3.Connection) -> Page[DeadLetter]:
    """Up to ``limit`` letters after the one with this number."""
    rows = connection.execute(_PAGE, (after, limit + 1)).fetchall()
    return page_of([_letter(row) for row in rows], limit, attrgetter("id"))


def read(letter_id: str, connection: sqlite3.Connection) -> DeadLetter | None:
    """The letter, or None."""
    row = connection.execute(_READ, (letter_number(letter_id),)).fetchone()
    return None if row is None else _letter(row)


def discard(letter_id: str, connection: sqlite3.Connection) -> bool:
    """Remove it; False if it is not there."""
    return connection.execute(_DISCARD, (letter_number(letter_id),)).rowcount > 0


def _letter(row: _Row) -> DeadLetter:
    number, queue, reason, body, at = row
    return DeadLetter(str(number), queue, reason, body, at)
