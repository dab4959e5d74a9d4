"""What all who use a prefix agree on, written by the first of them: how many partitions, and the format of the keys."""

from __future__ import annotations

import logging
from typing import Final, cast

from flowcraft.errors import AdapterError, Misconfigured
from flowcraft_redis.keys import Keyspace
from flowcraft_redis.link import Link

__all__ = ["Meta"]

_LOG = logging.getLogger("flowcraft.redis")
#: Raised with every change of what lies where.
_FORMAT: Final = 1


class Meta:
    """The keys of a prefix. ``partitions`` None: as many as there are, one at first use."""

    def __init__(self, link: Link, prefix: str, partitions: int | None) -> None:
        self._link = link
        self._prefix = prefix
        self._wanted = partitions
        self._agreed = False
        self.keys = Keyspace(prefix, partitions or 1)

    async def agree(self) -> None:
        """Write or read the number of partitions, once; and look whether Redis might throw keys away.

        Raises:
            Misconfigured: the prefix has another number of partitions, or keys of a later version.
        """
        if self._agreed:
            return
        name = self.keys.meta
        # Not as something that must not be sent twice: the second time it changes nothing.
        await self._link.call(b"HSETNX", name, b"format", _FORMAT)
        await self._link.call(b"HSETNX", name, b"partitions", self._wanted or 1)
        found = cast("list[bytes]", await self._link.call(b"HMGET", name, b"format", b"partitions"))
        version, partitions = int(found[0]), int(found[1])
        if version > _FORMAT:
            raise Misconfigured(
                f"the keys under {self._prefix!r} are of format {version}, this flowcraft-redis knows {_FORMAT}; "
                "update it here, or choose another prefix"
            )
        if self._wanted not in (None, partitions):
            raise Misconfigured(
                f"the prefix {self._prefix!r} has {partitions} partitions, not {self._wanted}: leave partitions out, "
                "or choose another prefix"
            )
        if partitions != len(self.keys.partitions):
            self.keys = Keyspace(self._prefix, partitions)
        await self._warn_of_eviction()
        self._agreed = True

    async def look(self) -> None:
        """Read the number of partitions, without agreeing to anything."""
        found = await self._link.call(b"HGET", self.keys.meta, b"partitions")
        if found is not None and int(found) != len(self.keys.partitions):
            self.keys = Keyspace(self._prefix, int(found))

    async def _warn_of_eviction(self) -> None:
        """Managed Redis may forbid CONFIG, so INFO is asked; one that forbids that, too, is not asked again."""
        try:
            text = cast("bytes", await self._link.call(b"INFO", b"memory"))
        except AdapterError:
            return
        rows = dict(line.split(":", 1) for line in text.decode("utf-8", "replace").splitlines() if ":" in line)
        policy = rows.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            _LOG.warning(
                "the Redis at %s has maxmemory-policy %s: it may throw runs away when its memory is full. Set it to "
                "noeviction, or use another Redis for Flowcraft",
                self._link.place, policy,
            )  # fmt: skip
