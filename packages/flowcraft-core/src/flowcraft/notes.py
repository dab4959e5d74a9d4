"""What a node says while it runs, kept with the run: its log records, and how far it was.

Records go to the stdlib logger ``flowcraft.node`` as ever. Those of one execution are also gathered in memory, and
committed with its outcome: never a write of their own, and of an execution that left no outcome nothing is kept.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, TypedDict, cast

from flowcraft.errors import InvalidRequest

__all__ = ["LEVELS", "LogRecord", "NoteTaker", "Progress", "VisitLog", "log_level", "read_logs", "read_progress"]

#: The least level that a runtime may be told to keep.
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_MOST_RECORDS: Final = 200
_MOST_BYTES: Final = 28 * 1024  # of 32 KB; the rest is for the node's id and its progress
_MOST_TEXT: Final = 2_000
_ROW_BYTES: Final = 80  # of a record without its message


@dataclass(frozen=True, slots=True)
class LogRecord:
    """What a node told its log. ``at`` in epoch seconds; ``level`` is a name of `logging`."""

    node_id: str
    visit: int
    attempt: int
    at: float
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an execution said it was: ``share`` from 0.0 to 1.0, at ``at`` in epoch seconds."""

    share: float
    text: str
    at: float
    visit: int
    attempt: int


class _Said(TypedDict):
    """The stored form. ``logs``: [at, level, attempt, message]; ``progress``: [share, text, at, attempt] or nothing."""

    node: str
    visit: int
    logs: list[list[Any]]
    progress: list[Any]


def log_level(name: object) -> int | None:
    """The number of the least level to keep; None: no records are kept.

    Raises:
        InvalidRequest: no name of a level.
    """
    if name is None:
        return None
    if name not in LEVELS:
        raise InvalidRequest(f"keep_logs is one of {', '.join(LEVELS)}, or None to keep none, not {name!r:.80}")
    return logging.getLevelNamesMapping()[str(name)]


class NoteTaker:
    """Gathers what one execution says: the latest 200 records within 32 KB, and the last progress. Threads may call."""

    def __init__(self, node_id: str, visit: int, now: Callable[[], float]) -> None:
        self._node_id = node_id
        self._visit = visit
        self._now = now
        self._rows: deque[list[Any]] = deque()
        self._sizes: deque[int] = deque()
        self._bytes = 0
        self._dropped = 0
        self._progress: list[Any] = []
        self._lock = threading.Lock()

    def record(self, level: int, message: str, attempt: int) -> None:
        """Keep one record; the oldest go when there are too many."""
        text = _storable(message if len(message) <= _MOST_TEXT else message[: _MOST_TEXT - 1] + "…")
        row = [self._now(), logging.getLevelName(level), attempt, text]
        size = _ROW_BYTES + len(json.dumps(text))
        with self._lock:
            self._rows.append(row)
            self._sizes.append(size)
            self._bytes += size
            while len(self._rows) > _MOST_RECORDS or self._bytes > _MOST_BYTES:
                self._drop()

    def progress(self, share: float, text: str, attempt: int) -> None:
        """Keep how far it is now, instead of what was told before."""
        told = [share, _storable(text), self._now(), attempt]
        with self._lock:
            self._progress = told

    def close(self) -> tuple[dict[str, Any], int] | None:
        """All of it as a value to be stored, and how many records it counts for; None if nothing was said.

        What is recorded later (by a thread that outlives its execution) is not kept.
        """
        with self._lock:
            if self._dropped:
                if len(self._rows) == _MOST_RECORDS:
                    self._drop()
                at, _, attempt, _ = self._rows[0]
                self._rows.appendleft([at, "WARNING", attempt, f"… {self._dropped:,} earlier records are not kept"])
            if not self._rows and not self._progress:
                return None
            said = _Said(node=self._node_id, visit=self._visit, logs=list(self._rows), progress=self._progress)
            return cast("dict[str, Any]", said), max(1, len(self._rows))

    def _drop(self) -> None:
        self._rows.popleft()
        self._bytes -= self._sizes.popleft()
        self._dropped += 1


class VisitLog(logging.LoggerAdapter[logging.Logger]):
    """The stdlib logger of one attempt, which also keeps its records from ``least`` on with the ``taker``."""

    def __init__(
        self, logger: logging.Logger, extra: Mapping[str, object], taker: NoteTaker | None, least: int, attempt: int
    ) -> None:
        super().__init__(logger, extra)
        self._taker = taker
        self._least = least
        self._attempt = attempt

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """The visit, and what the caller adds."""
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """What every method of a logger comes to. Kept whatever the application logs, or does not log."""
        if self._taker is not None and level >= self._least:
            self._taker.record(level, _formatted(msg, args, kwargs.get("exc_info")), self._attempt)
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1  # this method is not who logs
        super().log(level, msg, *args, **kwargs)


def _formatted(msg: object, args: tuple[Any, ...], exc_info: object) -> str:
    """The message as a handler would get it; an exception is told by its type and text, in a line of its own."""
    try:
        text = logging.LogRecord("", 0, "", 0, cast("str", msg), args, None).getMessage()
        error = _exception(exc_info)
        return text if error is None else f"{text}\n{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 - as in `logging`, a record that cannot be formatted disturbs nobody
        return f"(a record that cannot be formatted: {type(error).__name__})"


def _exception(exc_info: object) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    found: object = exc_info[1] if isinstance(exc_info, tuple) else sys.exception() if exc_info else None
    return found if isinstance(found, BaseException) else None


def _storable(text: str) -> str:
    """Without lone surrogates, which come from names of files and the like."""
    return text.encode("utf-8", "backslashreplace").decode()


def read_logs(said: Iterable[object], node_id: str | None = None, most: int = 2_000) -> tuple[LogRecord, ...]:
    """The records in stored values (oldest first), in order of time: the latest of them, of one node or of all."""
    rows = cast("Iterable[_Said]", said)
    found = [
        LogRecord(each["node"], each["visit"], attempt, at, level, message)
        for each in rows
        if node_id is None or each["node"] == node_id
        for at, level, attempt, message in each["logs"]
    ]
    found.sort(key=lambda record: record.at)
    return tuple(found[-most:])


def read_progress(said: Iterable[object]) -> dict[str, Progress]:
    """The last progress of each node in stored values (oldest first)."""
    rows = cast("Iterable[_Said]", said)
    told = ((each["node"], each["visit"], each["progress"]) for each in rows if each["progress"])
    return {node: Progress(share, text, at, visit, attempt) for node, visit, (share, text, at, attempt) in told}
