"""The value stores of SQLite and of a directory: what the checks of `flowcraft.conformance` leave to them."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from flowcraft.errors import InvalidRequest, Misconfigured, PayloadTooLarge, Unavailable
from flowcraft.model import run_address, value_address
from flowcraft.sqlite import SqliteBackend
from flowcraft.values import FileValueStore

from .virtual_clock import VirtualClock

# ---- files


def everything(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_names_of_files_are_hashes_and_parts_are_no_values(tmp_path: Path) -> None:
    values = FileValueStore(tmp_path)
    key = value_address("../../etc/passwd\n", b"data")
    await values.put(key, b"data")
    (found,) = everything(tmp_path)
    run, name = key.split("/")
    assert found.relative_to(tmp_path) == Path(run[:2]) / run / name
    (found.parent / "0123456789abcdef.part").write_bytes(b"of a writer that was killed")
    assert await values.get_many([key]) == {key: b"data"}
    await values.delete_run("../../etc/passwd\n")
    assert everything(tmp_path) == []


@pytest.mark.parametrize("key", ["", "a/b", "../x", f"{'0' * 64}/../{'0' * 61}", f"{'0' * 64}/{'0' * 64}\n", "A" * 64])
async def test_a_key_that_is_none_of_ours_is_no_path(tmp_path: Path, key: str) -> None:
    values = FileValueStore(tmp_path)
    with pytest.raises(InvalidRequest):
        await values.put(key, b"")
    with pytest.raises(InvalidRequest):
        await values.get_many([key])


async def test_a_value_of_a_writer_that_failed_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full in the middle of it: nothing is left, and the next attempt succeeds."""
    values, key = FileValueStore(tmp_path), value_address("run", b"data")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(Unavailable, match="space"):
            await values.put(key, b"data")
    assert everything(tmp_path) == []
    await values.put(key, b"data")
    assert await values.get_many([key]) == {key: b"data"}


async def test_a_value_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is being written nobody finds it at its place, so a writer that is killed leaves no part of it there."""
    values, key, sync = FileValueStore(tmp_path), value_address("run", b"data"), os.fsync
    seen: list[list[str]] = []

    def look(handle: int) -> None:
        seen.append([path.suffix for path in everything(tmp_path)])
        sync(handle)

    monkeypatch.setattr(os, "fsync", look)
    await values.put(key, b"data")
    assert seen[0] == [".part"]
    assert seen[1:], "the directories are synced, too"
    assert all(suffixes == [""] for suffixes in seen[1:])


async def test_a_removal_in_the_middle_of_a_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values, key, sync = FileValueStore(tmp_path), value_address("run", b"data"), os.fsync
    removals = [tmp_path / key[:2], tmp_path / key[:2]]

    def remove(handle: int) -> None:
        sync(handle)
        if removals:
            shutil.rmtree(removals.pop())

    monkeypatch.setattr(os, "fsync", remove)
    await values.put(key, b"data")
    assert await values.get_many([key]) == {key: b"data"}


async def test_a_path_that_can_never_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="cannot be used"):
        await FileValueStore(tmp_path / "file").put(value_address("run", b""), b"")


# ---- SQLite


async def test_the_table_is_there_only_if_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "flow.db"
    async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
        await backend.values.delete_run("run")
        assert await backend.values.get_many([value_address("run", b"x")]) == {}
        assert ("large_values",) not in tables(path)
        await backend.values.put(value_address("run", b"x"), b"x")
        assert ("large_values",) in tables(path)
    async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
        assert len(await backend.values.get_many([value_address("run", b"x")])) == 1


def tables(path: Path) -> list[tuple[str]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    finally:
        connection.close()


async def test_the_limit_is_a_typed_error(tmp_path: Path) -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 1_000_000_000

    async with SqliteBackend.open(tmp_path / "flow.db", clock=VirtualClock()) as backend:
        with pytest.raises(PayloadTooLarge, match="999,000,000"):
            await backend.values.put(f"{run_address('run')}/{'0' * 64}", Huge())
