"""A network that can be broken: a TCP proxy in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

__all__ = ["Proxy", "proxy_to"]


class Proxy:
    """``deaf``: replies are lost · ``stalled``: nothing gets through either way · ``refusing``: no connection."""

    def __init__(self, host: str, port: int) -> None:
        self.deaf = False
        self.stalled = False
        self.refusing = False
        self.passed = 0  # bytes of requests
        self.accepted = 0
        self.port = 0
        self._target = host, port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self) -> None:
        """End all connections."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.refusing:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            there, to_there = await asyncio.open_connection(*self._target)
            self._writers |= {writer, to_there}
            try:
                await asyncio.gather(self._pump(reader, to_there, back=False), self._pump(there, writer, back=True))
            finally:
                self._writers -= {writer, to_there}
                for each in (writer, to_there):
                    each.transport.abort()
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, back: bool) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                while self.stalled:  # noqa: ASYNC110 - a test says when it goes on
                    await asyncio.sleep(0.01)  # between two looks
                if back and self.deaf:
                    continue
                if not back:
                    self.passed += len(data)
                sink.write(data)
                await sink.drain()
        sink.transport.abort()

    async def close(self) -> None:
        self.cut()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def proxy_to(url: str) -> AsyncIterator[Proxy]:
    host, _, port = url.partition("//")[2].partition("/")[0].rpartition("@")[2].partition(":")
    proxy = Proxy(host, int(port or 6379))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()
