"""Log lines of the command: text for people, or one JSON object a line for collectors."""

from __future__ import annotations

import json
import logging
import time
from typing import Final

__all__ = ["JsonFormatter", "TextFormatter", "set_up_logging"]

#: What the library puts into ``extra``.
FIELDS: Final = ("run_id", "node_id", "visit", "attempt")


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, process, and the run, node, visit and attempt if known."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line: dict[str, object] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        line.update({name: found for name in FIELDS if (found := getattr(record, name, None)) is not None})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """``time level message [run/node#visit attempt n]``."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        found = {name: getattr(record, name, None) for name in FIELDS}
        where = "/".join(str(found[name]) for name in ("run_id", "node_id") if found[name] is not None)
        attempt = f" attempt {found['attempt']}" if found["attempt"] not in (None, 0, 1) else ""
        told = f"{_timestamp(record)} {record.levelname.lower():7} {record.getMessage()}"
        told += f" [{where}{attempt}]" if where else ""
        return told + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def _timestamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def set_up_logging(form: str, level: str) -> None:
    """Log to stderr: everything of ``level`` and above. For a command only: the library never configures logging."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
