"""A directory of values: one file for each, shared by all processes that see the directory."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from flowcraft.errors import InvalidRequest, Misconfigured, Unavailable
from flowcraft.model import run_address

__all__ = ["FileValueStore"]

T = TypeVar("T")
_KEY: Final = re.compile(r"[0-9a-f]{64}/[0-9a-f]{64}")
#: Troubles of a disk that may be over the next time.
_AGAIN: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EINTR, errno.EBUSY,
                           errno.EAGAIN, errno.ENOMEM, errno.ETIMEDOUT, errno.ESTALE})  # fmt: skip
#: So often a put and a removal of one run may meet before one of them gives up.
_RACES: Final = 100


class FileValueStore:
    """See `ValueStore`. One file a value, under ``path``, which is made when the first value is put.

    A file is written beside its place, synced and then moved there, so that it is whole or absent. Names are hashes.
    Files are read and written in threads. The rights of new files and directories are those of the process's umask.
    """

    max_value_bytes: int | None = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    async def put(self, key: str, data: bytes) -> None:
        """See the protocol."""
        place = self._place(key)
        await asyncio.to_thread(self._translated, lambda: _write(place, data))

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """See the protocol."""
        places = {key: self._place(key) for key in keys}

        def read() -> dict[str, bytes]:
            found: dict[str, bytes] = {}
            for key, place in places.items():
                with suppress(FileNotFoundError):
                    found[key] = place.read_bytes()
            return found

        return await asyncio.to_thread(self._translated, read)

    async def delete_run(self, run_id: str) -> None:
        """See the protocol."""
        folder = self._folder(run_address(run_id))
        await asyncio.to_thread(self._translated, lambda: _remove(folder))

    def _place(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise InvalidRequest(f"{key[:200]!r} is no key of a value: see flowcraft.model.value_address")
        run, _, name = key.partition("/")
        return self._folder(run) / name

    def _folder(self, run: str) -> Path:
        return self.path / run[:2] / run  # not all runs in one directory, which some file systems find slow

    def _translated(self, work: Callable[[], T]) -> T:
        """The one place where errors of the file system become errors of Flowcraft."""
        try:
            return work()
        except OSError as error:
            told = f"the value directory {str(self.path)!r} cannot be used: {error.strerror or error}"
            if error.errno in _AGAIN:
                raise Unavailable(told) from error
            raise Misconfigured(told) from error


def _write(place: Path, data: bytes) -> None:
    for _ in range(_RACES):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():  # else it is the same content, of an earlier attempt
                _write_whole(place, data)
        except (FileNotFoundError, FileExistsError):
            continue  # a removal of the run took the directory away, perhaps while it was being made
        # The names, too, must outlive a power cut: in the run's directory, and those of the directories above it.
        for folder in place.parents[:4]:
            _sync(folder)
        return
    raise OSError(errno.EBUSY, "a run's directory is removed again and again")


def _write_whole(place: Path, data: bytes) -> None:
    beside = place.with_name(f"{secrets.token_hex(8)}.part")
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(place)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    if os.name == "nt":
        return  # a directory cannot be opened there; NTFS keeps names in its journal
    with suppress(FileNotFoundError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(folder: Path) -> None:
    for _ in range(_RACES):
        try:
            for path in list(folder.iterdir()):
                path.unlink(missing_ok=True)
            folder.rmdir()
        except FileNotFoundError:
            return  # there is nothing, or somebody else removes it at the same time
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:  # a late commit put something into it
                raise
        else:
            return
    raise OSError(errno.EBUSY, "something is put into a run's directory again and again")
