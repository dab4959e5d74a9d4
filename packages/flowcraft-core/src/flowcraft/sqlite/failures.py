"""The one place where errors of ``sqlite3`` become errors of Flowcraft."""

from __future__ import annotations

import sqlite3

from flowcraft.errors import FlowcraftError, InvalidRequest, Misconfigured, PayloadTooLarge, Unavailable

__all__ = ["is_busy", "is_full", "translate"]

# https://www.sqlite.org/rescode.html: the low byte of an extended code is the primary one.
_AGAIN = {
    sqlite3.SQLITE_BUSY: "is locked by another process",
    sqlite3.SQLITE_LOCKED: "is locked",
    sqlite3.SQLITE_PROTOCOL: "is locked by another process",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full or a quota is used up; free some space",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk reported an error",
    sqlite3.SQLITE_NOMEM: "cannot be used: out of memory",
    sqlite3.SQLITE_INTERRUPT: "was interrupted",
}
_NEVER = {
    sqlite3.SQLITE_READONLY: "is read-only; this process needs to write the file and its folder",
    sqlite3.SQLITE_PERM: "may not be used by this process; check the permissions of the file and its folder",
    sqlite3.SQLITE_AUTH: "may not be used by this process; check the permissions of the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; this process needs to read and write the file and its folder",
    sqlite3.SQLITE_NOTADB: "is not a SQLite database; choose another path or move the file away",
    sqlite3.SQLITE_FORMAT: "is not a SQLite database; choose another path or move the file away",
    sqlite3.SQLITE_CORRUPT: "is damaged; restore a backup, or save what can be read with `sqlite3 FILE .recover`",
}


def is_busy(error: sqlite3.Error) -> bool:
    """True if another connection was in the way and nothing happened."""
    return _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}


def is_full(error: sqlite3.Error) -> bool:
    """True if there was no room for what was written."""
    return _code(error) == sqlite3.SQLITE_FULL


def translate(error: Exception, path: str) -> Exception:
    """What to raise (``from error``) instead of an error that an operation on ``path`` met; never means "unknown"."""
    if isinstance(error, FlowcraftError):
        return error
    if isinstance(error, UnicodeEncodeError | OverflowError):
        return InvalidRequest(f"an id, key or number cannot be stored by SQLite: {error}")
    if not isinstance(error, sqlite3.Error):
        return error
    code = _code(error)
    if code == sqlite3.SQLITE_TOOBIG:
        return PayloadTooLarge(f"a value or document is larger than SQLite can store: {error}")
    if code in _AGAIN:
        return Unavailable(f"the SQLite file {path!r} {_AGAIN[code]} ({error})")
    return Misconfigured(f"the SQLite file {path!r} {_NEVER.get(code, 'refuses what we ask of it')} ({error})")


def _code(error: sqlite3.Error) -> int:
    # Errors of the module itself (a closed connection, a wrong binding) have no code.
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE)
    return code & 0xFF
