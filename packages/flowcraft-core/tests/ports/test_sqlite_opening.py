"""Several processes open a new SQLite file at once: whatever one does between two looks of another, both have it."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from flowcraft.errors import Misconfigured
from flowcraft.sqlite.schema import APPLICATION_ID, SCHEMA_VERSION, prepare


def test_whatever_another_process_does_meanwhile_a_new_file_is_ours(tmp_path: Path) -> None:
    looks: list[str] = []
    _prepare_beside(str(tmp_path / "counted.db"), looks, meddle_at=None)
    assert len(looks) > 10
    for moment in range(len(looks)):
        path = str(tmp_path / f"{moment}.db")
        _prepare_beside(path, [], meddle_at=moment)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
            assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def _prepare_beside(path: str, looks: list[str], *, meddle_at: int | None) -> None:
    """Prepare the file; before the statement with this number another process tries to prepare it as well."""
    with (
        closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as one,
        closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other,
    ):

        def meddle(statement: str) -> None:
            looks.append(statement)
            if len(looks) - 1 == meddle_at:
                with suppress(sqlite3.OperationalError):  # it is busy: then it would come again
                    prepare(other, path)

        one.set_trace_callback(meddle)
        try:
            prepare(one, path)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            one.set_trace_callback(None)
            prepare(one, path)  # as `patiently` does
        one.set_trace_callback(None)


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE theirs (x)", "PRAGMA user_version = 7", "PRAGMA application_id = 9"]
)
def test_a_file_of_another_program_is_still_refused(tmp_path: Path, statement: str) -> None:
    with closing(sqlite3.connect(tmp_path / "theirs.db", isolation_level=None)) as connection:
        connection.execute(statement)
        with pytest.raises(Misconfigured, match="belongs to another program"):
            prepare(connection, "theirs.db")
