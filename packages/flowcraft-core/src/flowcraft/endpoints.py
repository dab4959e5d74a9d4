"""Webhook endpoints: urls with a secret, of which the run keeps a digest; and events, by which waits are resumed."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import quote, urlsplit

from flowcraft.checks import requested_id, told
from flowcraft.client import Client
from flowcraft.codec import Codec
from flowcraft.committer import Committer
from flowcraft.constructs import WEBHOOK_EVENT
from flowcraft.engine.events import Completed, Endpoint, EngineEvent, Failed
from flowcraft.engine.head import Head
from flowcraft.errors import CommandRefused, InvalidRequest, Misconfigured, RunError, RunNotFound
from flowcraft.graph import Graph
from flowcraft.model import ErrorInfo, ValueKey
from flowcraft.ports import RunStore
from flowcraft.refusals import ended
from flowcraft.signals import Answered, coming_visit, wait_of_webhook
from flowcraft.steering import decide
from flowcraft.visits import Starter
from flowcraft.work import Work

__all__ = ["Endpoints", "WebhookEndpoint", "WebhookTarget", "check_base_url"]

_TOKEN_BYTES: Final = 32
_NO_BASE: Final = "no url can be made for a webhook: give the adapter webhook_base_url, e.g. 'https://example.org'"


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """Where a webhook is called: ``url`` holds its secret; ``event`` names it for `Adapter.publish_event`."""

    url: str
    event: str


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """What a url with its secret stands for: one visit of a wait."""

    wait: str
    visit: int


class Endpoints:
    """The webhooks of an adapter. Beside its worker it executes the nodes that use ``webhook``.

    Each url has a secret of 256 random bits. The run keeps its SHA-256, and which visit of which wait it is for, as
    values of its own, so they are deleted with it.
    """

    def __init__(
        self, client: Client, committer: Committer, store: RunStore, codec: Codec, *,
        base_url: str | None, others: Starter,
    ) -> None:  # fmt: skip
        self._client = client
        self._committer = committer
        self._store = store
        self._codec = codec
        self._base = None if base_url is None else base_url.rstrip("/")
        self._others = others

    async def register(self, run_id: str, node_id: str) -> WebhookEndpoint:
        """Make a url for a webhook node, or for a wait: it resumes the visit that waits now, or else the next one.

        It is stored before it is returned. Another call makes another url; earlier ones stay good for their visit.

        Raises:
            Misconfigured: the adapter has no ``webhook_base_url``. RunNotFound: there is no such run. NotWaiting: no
            such node, or it cannot be told which wait it is for. CommandRefused: the run has ended.
        """
        if self._base is None:
            raise Misconfigured(_NO_BASE)
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        digest = _digest(token)

        def decision(graph: Graph, head: Head) -> tuple[None, list[EngineEvent]]:
            wait = wait_of_webhook(graph, node_id)
            if head.terminal:
                raise CommandRefused(f"run {run_id!r}: {ended(head)}", reason=ended(head))
            visit = coming_visit(graph, head, graph.index[wait])
            record = {"node": node_id, "wait": wait, "visit": visit, "digest": digest}
            return None, [Endpoint(graph.index[node_id], _name(digest), self._codec.encode(record))]

        await decide(self._committer, requested_id(run_id, "run id"), decision)
        path = f"{quote(run_id, safe='')}/{quote(node_id, safe='')}"
        return WebhookEndpoint(f"{self._base}/webhooks/{path}?token={token}", f"{WEBHOOK_EVENT}{run_id}:{node_id}")

    async def find(self, run_id: str, node_id: str, token: str) -> WebhookTarget | None:
        """What a url stands for; None for a run or node that is not there and for a wrong token alike."""
        digest = _digest(token)
        key = ValueKey("webhook", _name(digest))
        found = (await self._store.read_values(run_id, [key])).get(key)
        record = cast("Mapping[str, object]", {} if found is None else self._codec.decode(found))
        same = hmac.compare_digest(str(record.get("digest", "")).encode(), digest.encode())
        if not same or record.get("node") != node_id:
            return None
        return WebhookTarget(str(record["wait"]), cast("int", record["visit"]))

    async def publish(
        self, event: str, payload: object, *, run_id: str | None, action: str | None, signal_id: str | None
    ) -> Mapping[str, Answered]:
        """See `flowcraft.facade.Facade.publish_event`."""
        chosen = secrets.token_hex(16) if signal_id is None else signal_id
        named = await self._named(event, run_id)
        if named is not None:
            handle = self._client.handle(named[0])
            return {named[1]: await handle.signal(named[1], payload, action=action, signal_id=chosen)}
        if run_id is None:
            raise InvalidRequest(f"event {event!r} names no run: give run_id")
        return await self._client.handle(run_id).publish(event, payload, action=action, signal_id=chosen)

    async def _named(self, event: str, run_id: str | None) -> tuple[str, str] | None:
        """The run and the wait that ``webhook:{run}:{node}`` means; None: it is the event name of waits.

        Ids may hold colons, so every reading is tried.
        """
        readings = [(run, node) for run, node in _readings(event) if run_id in (None, run)]
        found: list[tuple[str, str]] = []
        trouble: RunError | None = None
        for run, node in readings:
            state = await self._committer.load(run)
            try:
                if state is None:
                    raise RunNotFound(f"there is no run {run!r}: it never was, or its retention time is over")
                found.append((run, wait_of_webhook(state.graph, node)))
            except RunError as error:
                trouble = error
        if len(found) > 1:
            raise InvalidRequest(f"event {event!r} can mean several runs: give run_id")
        if not found and trouble is not None:
            raise trouble
        return found[0] if found else None

    async def start(self, work: Work, given: object) -> EngineEvent:
        """Execute the visit of a built-in node.

        Raises:
            AdapterError: the backend failed; to be repeated.
        """
        if not work.is_webhook:
            return await self._others.start(work, given)
        try:
            made = await self.register(work.job.run_id, work.job.node)
        except (Misconfigured, RunError) as error:
            if self._base is not None and isinstance(error, Misconfigured):
                raise
            return Failed(work.visit, ErrorInfo(type(error).__name__, str(error)), retryable=False)
        return Completed(work.visit, self._codec.encode({"url": made.url, "event": made.event}))


def check_base_url(url: str | None) -> None:
    """Make sure that urls of webhooks can begin like this.

    Raises:
        InvalidRequest: it is no http url, or has a query or fragment.
    """
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise InvalidRequest(f"webhook_base_url is a url such as 'https://example.org', not {told(url)}")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _name(digest: str) -> str:
    """Under which name a run keeps an endpoint: enough of its digest to find it."""
    return digest[:32]


def _readings(event: str) -> Iterator[tuple[str, str]]:
    if not event.startswith(WEBHOOK_EVENT):
        return
    rest = event[len(WEBHOOK_EVENT) :]
    for at, char in enumerate(rest):
        if char == ":" and 0 < at < len(rest) - 1:
            yield rest[:at], rest[at + 1 :]
