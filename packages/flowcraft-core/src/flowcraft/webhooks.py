"""Webhooks over HTTP: a plain ASGI application, to be mounted into any framework or served by itself.

::

    app.mount("/webhooks", WebhookApp(adapter))  # FastAPI, Starlette; the adapter knows webhook_base_url
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any, Final, cast
from urllib.parse import parse_qs, unquote

from flowcraft.errors import (
    AdapterError,
    InvalidPayload,
    InvalidRequest,
    MailboxFull,
    Misconfigured,
    NotWaiting,
    PayloadTooLarge,
    RunNotFound,
    SerializationError,
    SignalConflict,
    TooLate,
)
from flowcraft.facade import Facade

__all__ = ["WebhookApp"]

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_LOG = logging.getLogger("flowcraft.webhooks")
_RETRY_AFTER: Final = 5
_ANSWERS: Final = {"accepted": 200, "repeated": 200, "early": 202}


@dataclass(frozen=True, slots=True)
class _Answer(Exception):
    """What the caller gets. ``told`` is the JSON body's ``status``; ``detail`` is for people."""

    status: int
    told: str
    detail: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


#: The same for a run, a node and a secret: nobody learns which of them exist.
_UNKNOWN: Final = _Answer(404, "unknown")


class _Refused(Exception):
    def __init__(self, answer: _Answer) -> None:
        super().__init__(answer.told)
        self.answer = answer


class WebhookApp:
    """Takes calls of the urls that `Adapter.register_webhook_endpoint` and webhook nodes make, and resumes their waits.

    POST only. The secret is taken from the query (``token``), the header ``X-Flowcraft-Token`` or ``Authorization:
    Bearer``. An ``action`` in the query becomes the signal's action. The payload: JSON for a content type of JSON, text
    for ``text/*`` and forms, None for an empty body, else bytes. The same body again is the same signal; a header
    ``Idempotency-Key`` decides that instead, if there is one.

    ======  ====================================================================================================
    200     accepted, or the same once more: ``{"status": "accepted"}`` or ``"repeated"``
    202     the wait has not begun: the signal is kept, ``"early"``
    400     malformed JSON or text, or a payload that the wait does not take
    404     no such run or node, or a wrong secret: always the same answer
    405     not a POST
    409     another body was accepted, or is kept, for this visit
    410     too late: the visit is over, or the run has ended
    413     a larger body than ``max_body`` bytes, or one that cannot be stored for its size
    429     too many signals are kept for this run
    503     the store cannot be reached: ``Retry-After`` says when to try again
    ======  ====================================================================================================

    Args:
        adapter: an open one, at the latest when the first call comes.
        max_body: the largest body, in bytes.
    """

    def __init__(self, adapter: Facade, *, max_body: int = 1_048_576) -> None:
        self._adapter = adapter
        self._max_body = max_body

    async def __call__(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        """The ASGI 3 interface."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            answer = await self._answer(_Request(scope, receive))
            if answer is not None:
                await _reply(answer, send)

    async def _answer(self, request: _Request) -> _Answer | None:
        """The answer to a call; None: whoever called has gone."""
        try:
            return await self._deliver(request)
        except _Refused as refused:
            return refused.answer
        except _Gone:
            return None
        except Misconfigured as error:
            _LOG.error("a webhook was not delivered, the adapter can never work like this: %s", error)
            return _Answer(500, "error")
        except AdapterError as error:
            _LOG.warning("a webhook was not delivered, it is to be repeated: %s", error)
            return _Answer(503, "unavailable", headers={"retry-after": str(_RETRY_AFTER)})
        except Exception as error:  # noqa: BLE001 - told by its type only: its text may hold what was sent
            _LOG.error("a webhook was not delivered: %s", type(error).__name__)
            return _Answer(500, "error")

    async def _deliver(self, request: _Request) -> _Answer:
        if request.method != "POST":
            raise _Refused(_Answer(405, "not allowed", "POST only", {"allow": "POST"}))
        run_id, node_id = request.ids()
        token = request.token()
        try:
            endpoints = self._adapter.endpoints
        except InvalidRequest as error:  # not open yet, or closed already
            raise _Refused(_Answer(503, "unavailable", headers={"retry-after": str(_RETRY_AFTER)})) from error
        target = await endpoints.find(run_id, node_id, token)
        if target is None:
            raise _Refused(_UNKNOWN)
        body = await request.body(self._max_body)
        payload, action = request.payload(body), request.action()
        signal_id = request.signal_id(body)
        try:
            answer = await self._adapter.run(run_id).signal(
                target.wait, payload, action=action, signal_id=signal_id, visit=target.visit
            )
        except (RunNotFound, NotWaiting) as error:
            raise _Refused(_UNKNOWN) from error
        except SignalConflict as error:
            raise _Refused(_Answer(409, "conflict", "another body was accepted")) from error
        except TooLate as error:
            raise _Refused(_Answer(410, "too late")) from error
        except MailboxFull as error:
            raise _Refused(_Answer(429, "full", headers={"retry-after": str(_RETRY_AFTER)})) from error
        except PayloadTooLarge as error:
            raise _Refused(_Answer(413, "too large")) from error
        except (InvalidPayload, InvalidRequest, SerializationError) as error:
            raise _Refused(_Answer(400, "refused", str(error))) from error
        return _Answer(_ANSWERS[answer], answer)


class _Gone(Exception):
    """Whoever called has hung up."""


class _Request:
    """One call, as ASGI tells it. Each part raises the answer to a call in which it is wrong."""

    def __init__(self, scope: Mapping[str, Any], receive: _Receive) -> None:
        self.method = str(scope["method"])
        self._scope = scope
        self._receive = receive
        headers = cast("list[tuple[bytes, bytes]]", list(scope["headers"]))
        self._headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
        self._query = parse_qs(cast("bytes", scope.get("query_string", b"")).decode("latin-1"))

    def ids(self) -> tuple[str, str]:
        """Run and node: the last two parts of the path, wherever the application is mounted."""
        raw = cast("bytes | None", self._scope.get("raw_path"))
        try:
            if raw:
                parts = [unquote(part, errors="strict") for part in raw.split(b"?")[0].decode("ascii").split("/")]
            else:
                parts = str(self._scope["path"]).split("/")
        except UnicodeError as error:
            raise _Refused(_UNKNOWN) from error
        if len(parts) < 2 or not parts[-1] or not parts[-2]:
            raise _Refused(_UNKNOWN)
        return parts[-2], parts[-1]

    def token(self) -> str:
        """The secret."""
        scheme, _, credentials = self._headers.get("authorization", "").partition(" ")
        bearer = credentials.strip() if scheme.lower() == "bearer" else ""
        found = self._one("token") or self._headers.get("x-flowcraft-token") or bearer
        if not found:
            raise _Refused(_UNKNOWN)
        return found

    def action(self) -> str | None:
        """The signal's action."""
        return self._one("action")

    def _one(self, name: str) -> str | None:
        return next(iter(self._query.get(name, ())), None)

    async def body(self, limit: int) -> bytes:
        """The whole body, at most ``limit`` bytes of it."""
        length = self._headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > limit:
            raise _Refused(_too_large(limit))
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            parts.append(cast("bytes", message.get("body", b"")))
            size += len(parts[-1])
            more = bool(message.get("more_body", False))
            if size > limit:
                raise _Refused(_too_large(limit))
        return b"".join(parts)

    def payload(self, body: bytes) -> object:
        """What the body says, by its content type."""
        if not body:
            return None
        kind = Message()
        kind["content-type"] = self._headers.get("content-type", "application/octet-stream")
        name = kind.get_content_type()
        if name == "application/json" or name.endswith("+json"):
            return _parsed(body)
        if name.startswith("text/") or name == "application/x-www-form-urlencoded":
            charset = kind.get_content_charset("utf-8")
            try:
                return body.decode(charset)
            except (UnicodeError, LookupError) as error:
                raise _Refused(_Answer(400, "malformed", f"the body is not text in {charset}")) from error
        return body

    def signal_id(self, body: bytes) -> str:
        """The same for the same call: by the header that says so, else by what was sent."""
        key = self._headers.get("idempotency-key")
        if key:
            return "webhook-key:" + hashlib.sha256(key.encode("latin-1")).hexdigest()
        digest = hashlib.sha256(body)
        digest.update(b"\0" + (self.action() or "").encode("utf-8", "surrogatepass"))
        return "webhook:" + digest.hexdigest()


def _too_large(limit: int) -> _Answer:
    return _Answer(413, "too large", f"a body has at most {limit} bytes")


def _parsed(body: bytes) -> object:
    try:
        return cast("object", json.loads(body.decode("utf-8-sig")))
    except (ValueError, RecursionError) as error:
        where = f" at position {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise _Refused(_Answer(400, "malformed", f"the body is not JSON{where}")) from error


async def _reply(answer: _Answer, send: _Send) -> None:
    row = {"status": answer.told} | ({"detail": answer.detail} if answer.detail else {})
    body = json.dumps(row).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "cache-control": "no-store",
        **answer.headers,
    }
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: _Receive, send: _Send) -> None:
    """Served by itself: there is nothing to open, the adapter belongs to the application."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
