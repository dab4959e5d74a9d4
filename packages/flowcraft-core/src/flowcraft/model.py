"""What crosses a port: frozen dataclasses of ids, bytes and numbers. Times are epoch seconds of the store's clock."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, TypeVar, cast

from flowcraft.compact import compact, quoted
from flowcraft.errors import SerializationError

__all__ = [
    "RUN_INPUT",
    "TERMINAL",
    "Capabilities",
    "Change",
    "Committed",
    "Created",
    "DeadLetter",
    "ErrorInfo",
    "Event",
    "Index",
    "Job",
    "NewRun",
    "NodeState",
    "Page",
    "RunStatus",
    "RunSummary",
    "Space",
    "StoredHead",
    "ValueKey",
    "run_address",
    "value_address",
]

T = TypeVar("T")

RunStatus = Literal["running", "awaiting", "paused", "cancelling", "completed", "failed", "cancelled"]
#: The statuses that a run never leaves, except by an explicit command that opens a new epoch.
TERMINAL: frozenset[str] = frozenset({"completed", "failed", "cancelled"})
NodeState = Literal[
    "pending", "ready", "held", "parked", "waiting", "retrying", "draining",
    "completed", "failed", "skipped", "cancelled",
]  # fmt: skip

#: ``context``: the user's keys (visit 0) · ``output``: by node and visit · ``input``: what an edge's transform made, by
#: edge and visit of its source; or what was given for a node · ``error``: why a visit failed · ``item``, ``result``:
#: what a batch works on, and what came of it · ``signal``: what came for a wait that has not begun, and actions that
#: are kept · ``webhook``: the endpoints of webhooks · ``log``: what nodes said while they ran, numbered through the run
#: (no name).
Space = Literal["context", "output", "input", "error", "item", "result", "signal", "webhook", "log"]


class ValueKey(NamedTuple):
    """Names one stored value of a run. ``visit`` is 0 where values have no visits."""

    space: Space
    name: str
    visit: int = 0


def value_address(run_id: str, content: bytes) -> str:
    """The key of a value in a `ValueStore`: SHA-256 of the run's id, a slash, SHA-256 of the content, both in hex."""
    return f"{run_address(run_id)}/{hashlib.sha256(content).hexdigest()}"


def run_address(run_id: str) -> str:
    """How the keys of all values of a run begin."""
    return hashlib.sha256(run_id.encode("utf-8", "surrogatepass")).hexdigest()


#: The input that the run was started with (no node has an empty id).
RUN_INPUT = ValueKey("output", "", 0)


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """Why a visit failed, as plain data. ``kind`` is the type's name; texts are cut at 8,000 characters."""

    kind: str
    text: str
    trace: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" if self.text else self.kind

    def to_dict(self) -> dict[str, object]:
        """The error as data: what a fallback gets as ``input["error"]``, and what is stored."""
        limit = 8000
        return {"kind": self.kind, "message": self.text[:limit], "trace": self.trace[-limit:]}

    @staticmethod
    def from_dict(data: object) -> ErrorInfo:
        """The inverse of `to_dict`; what is missing is empty."""
        row = cast("dict[str, object]", data) if isinstance(data, dict) else {}
        return ErrorInfo(str(row.get("kind", "Error")), str(row.get("message", "")), str(row.get("trace", "")))


@dataclass(frozen=True, slots=True)
class Job:
    """A doorbell: "this visit may be READY". Ids only, no authority; the head decides.

    ``nonce`` is of the commit that made the visit READY; (nonce, node, visit, attempt) is the activation. ``resend``
    counts how often the ticker has sent it again. ``item`` is the number of an item visit of a batch, or -1.
    """

    run_id: str
    node: str
    visit: int
    attempt: int
    nonce: str
    queue: str = ""
    priority: int = 0
    resend: int = 0
    item: int = -1

    def to_bytes(self) -> bytes:
        """The message body: JSON text, well below 2 KB (ids are at most 200 bytes)."""
        return (
            f"[1,{quoted(self.run_id)},{quoted(self.node)},{self.visit:d},{self.attempt:d},{quoted(self.nonce)},"
            f"{quoted(self.queue)},{self.priority:d},{self.resend:d},{self.item:d}]"
        ).encode()

    @staticmethod
    def from_bytes(data: bytes) -> Job:
        """Decode a message body.

        Raises:
            SerializationError: it is not one; the caller moves it to the dead letters.
        """
        try:
            row = json.loads(data)
            version, run_id, node, visit, attempt, nonce, queue, priority, resend, item = row
        except (ValueError, TypeError, RecursionError) as error:
            raise SerializationError(f"not a job message: {data[:80]!r}") from error
        texts = (run_id, node, nonce, queue)
        numbers = (visit, attempt, priority, resend, item)
        if version != 1 or not all(type(x) is str for x in texts) or not all(type(x) is int for x in numbers):
            raise SerializationError(f"not a job message of version 1: {data[:80]!r}")
        return Job(run_id, node, visit, attempt, nonce, queue, priority, resend, item)

    @property
    def claim_key(self) -> str:
        """The name of the lease on this activation: whoever holds it works on it."""
        node = self.node if self.item < 0 else f"{self.node}\x1f{self.item}"
        return f"{self.run_id}\x1f{node}\x1f{self.visit}\x1f{self.attempt}\x1f{self.nonce}"

    @property
    def visit_key(self) -> str:
        """The visit's attempt, whichever activation it is owed under: parking mints another one."""
        return self.claim_key.rpartition("\x1f")[0]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up, with its body as it came; or a visit that was (``kind`` is ``poisoned``).

    ``id`` is opaque · ``queue``: where it was received · ``at``: when it was given up, None where the broker does not
    say · ``deaths``: executions of a poisoned visit that began and left no outcome; its ``body`` is its last message.
    """

    id: str
    queue: str
    reason: str
    body: bytes
    at: float | None = None
    kind: Literal["message", "poisoned"] = "message"
    deaths: int = 0

    @property
    def job(self) -> Job | None:
        """The visit that the body names; None: this version cannot decode it."""
        try:
            return Job.from_bytes(self.body)
        except SerializationError:
            return None


@dataclass(frozen=True, slots=True)
class Event:
    """One fact of a run's history. ``seq`` counts from 1 without gaps; 0 marks a hint that is not stored.

    ``head`` is for `flowcraft.history` alone: it is stored with the last event of a commit, and never shown or told.
    """

    run_id: str
    seq: int
    type: str
    at: float
    node: str | None = None
    visit: int = 0
    attempt: int = 0
    data: Mapping[str, object] = field(default_factory=dict[str, object])
    head: bytes = field(default=b"", repr=False)

    def to_json(self) -> str:
        """The event as JSON text, without its run id and number, which the store keeps beside it."""
        node = "null" if self.node is None else quoted(self.node)
        data = compact(dict(self.data)) if self.data else "{}"
        head = f',"head":"{base64.b64encode(self.head).decode()}"' if self.head else ""
        return (
            f'{{"type":{quoted(self.type)},"at":{self.at!r},"node":{node},"visit":{self.visit:d},'
            f'"attempt":{self.attempt:d},"data":{data}{head}}}'
        )

    @staticmethod
    def from_json(run_id: str, seq: int, text: str | bytes) -> Event:
        """The inverse of `to_json`."""
        row = cast("dict[str, object]", json.loads(text))
        return Event(
            run_id, seq, str(row["type"]), cast("float", row["at"]), cast("str | None", row["node"]),
            cast("int", row["visit"]), cast("int", row["attempt"]), cast("dict[str, object]", row["data"]),
            base64.b64decode(cast("str", row.get("head", ""))),
        )  # fmt: skip

    def with_head(self, head: bytes) -> Event:
        """The event, carrying this."""
        return Event(self.run_id, self.seq, self.type, self.at, self.node, self.visit, self.attempt, self.data, head)

    def told(self) -> Event:
        """The event as people and listeners get it."""
        return self.with_head(b"") if self.head else self


@dataclass(frozen=True, slots=True)
class Index:
    """The columns a store can find a document by. ``wake_at`` may be early, never late; None: nothing is due."""

    status: str
    wake_at: float | None
    updated_at: float


@dataclass(frozen=True, slots=True)
class NewRun:
    """A document to be created in one step. ``fingerprint`` tells a repeated start from another one."""

    run_id: str
    fingerprint: str
    token: str
    head: bytes
    index: Index
    created_at: float
    blueprint_id: str = ""
    blueprint_hash: str = ""
    values: Mapping[ValueKey, bytes] = field(default_factory=dict[ValueKey, bytes])
    jobs: Sequence[Job] = ()
    events: Sequence[Event] = ()
    kind: str = "run"


@dataclass(frozen=True, slots=True)
class Created:
    """``made`` is False if the document existed; ``fingerprint`` and ``token`` are then those of the stored one."""

    made: bool
    fingerprint: str
    token: str


@dataclass(frozen=True, slots=True)
class StoredHead:
    """A document as loaded: ``version`` is the store's, opaque; ``values`` are those asked for that exist."""

    run_id: str
    head: bytes
    version: str
    token: str
    index: Index
    values: Mapping[ValueKey, bytes] = field(default_factory=dict[ValueKey, bytes])
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One atomic step of one document: applied if its version is still ``version``, else nothing of it happens.

    ``jobs`` and ``deliveries`` are used by a store that is bound to the queue: pushed, and acked, in the same step.
    ``blueprint``: id and content hash of the one that a run is moved to, for `list` and `due`; None: it stays.
    """

    run_id: str
    version: str
    token: str
    head: bytes
    index: Index
    values: Mapping[ValueKey, bytes] = field(default_factory=dict[ValueKey, bytes])
    deleted: Collection[ValueKey] = ()
    jobs: Sequence[Job] = ()
    deliveries: Sequence[object] = ()
    events: Sequence[Event] = ()
    kind: str = "run"
    blueprint: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """``applied`` with the document's new version, or a conflict with what is stored now (None: it is gone)."""

    applied: bool
    version: str = ""
    stored: StoredHead | None = None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One row of a listing."""

    run_id: str
    status: str
    blueprint_id: str
    blueprint_hash: str
    created_at: float
    updated_at: float
    wake_at: float | None
    token: str


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows, and the cursor of the next page, or None after the last."""

    items: tuple[T, ...]
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do, as numbers and facts that the core uses. None means unlimited.

    Of both: ``durable``: survives the loss of every process. Of a store: ``history``: events are stored in the same
    step · ``max_value_bytes``, ``max_commit_items``, ``max_commit_bytes``: see `RunStore.commit`. Of a queue:
    ``max_delay``: seconds a message may be delayed · ``visibility``: until an unacknowledged delivery comes again ·
    ``extend``: it can be kept for longer · ``max_message_bytes`` · ``priorities``: urgent jobs overtake.
    """

    durable: bool = True
    history: bool = False
    extend: bool = True
    priorities: bool = False
    max_delay: float | None = None
    visibility: float | None = None
    max_message_bytes: int | None = None
    max_value_bytes: int | None = None
    max_commit_items: int | None = None
    max_commit_bytes: int | None = None
