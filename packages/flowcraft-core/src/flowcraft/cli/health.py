"""``--health-port``: a few lines of HTTP on 127.0.0.1, for the probe of an orchestrator. No third-party code."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

from flowcraft.cli.failures import TROUBLE, CommandError

__all__ = ["Health", "serve_health"]

#: Whether all is well, and what else to say, as JSON data.
Health = Callable[[], tuple[bool, Mapping[str, object]]]
_LIMIT: Final = 8192
_PATIENCE: Final = 5.0


@asynccontextmanager
async def serve_health(port: int | None, health: Health) -> AsyncGenerator[int | None]:
    """Answer ``GET /healthz`` with 200 or 503 inside the block; gives the port (0 asks for a free one).

    Raises:
        CommandError: the port cannot be had.
    """
    if port is None:
        yield None
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(_respond(request, health))
                await writer.drain()
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            pass  # a caller that is not interested any more, or is no HTTP client
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(answer, "127.0.0.1", port, limit=_LIMIT)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CommandError(f"--health-port {port}: {reason}", TROUBLE) from error
    async with server:
        yield int(server.sockets[0].getsockname()[1])


def _respond(request: bytes, health: Health) -> bytes:
    status: HTTPStatus
    told: dict[str, object]
    method, _, rest = request.partition(b"\r\n")[0].partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if method not in (b"GET", b"HEAD"):
        status, told = HTTPStatus.METHOD_NOT_ALLOWED, {"error": "only GET and HEAD"}
    elif path != b"/healthz":
        status, told = HTTPStatus.NOT_FOUND, {"error": "there is only /healthz"}
    else:
        healthy, facts = health()
        status = HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
        told = {"healthy": healthy, **facts}
    body = json.dumps(told).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == b"HEAD" else body)
