"""Large values in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowcraft.model import run_address

__all__ = ["MemoryValueStore"]


class MemoryValueStore:
    """See `ValueStore`. The values stay as long as the object."""

    max_value_bytes: int | None = None

    def __init__(self) -> None:
        self._runs: dict[str, dict[str, bytes]] = {}

    async def put(self, key: str, data: bytes) -> None:
        """See the protocol."""
        self._runs.setdefault(key.partition("/")[0], {}).setdefault(key, bytes(data))

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """See the protocol."""
        runs = {key: self._runs.get(key.partition("/")[0], {}) for key in keys}
        return {key: values[key] for key, values in runs.items() if key in values}

    async def delete_run(self, run_id: str) -> None:
        """See the protocol."""
        self._runs.pop(run_address(run_id), None)
