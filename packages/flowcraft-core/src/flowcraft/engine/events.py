"""The events of a run: what the transition is told. All frozen; ``Cell`` values are in the caller's form."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from flowcraft.engine.draft import Cell
from flowcraft.engine.notes import Notes
from flowcraft.model import ErrorInfo

__all__ = [
    "Cancel", "ChildAsked", "ChildEnded", "ChildStarted", "Completed", "Dropped", "Endpoint", "EngineEvent", "Failed",
    "MarkCompleted", "Parked", "Patch", "Pause", "Resent", "Retry", "Rollback", "Signal", "Tick", "Unparked", "Unpause",
    "Visit",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Visit:
    """The fence: which activation an outcome belongs to. An outcome of another one changes nothing.

    ``node`` is a slot (`flowcraft.engine.slots`): a node, or an item visit of a batch.
    """

    node: int
    nonce: str
    visit: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Completed:
    """User code returned. ``writes`` are context keys; MISSING deletes one.

    ``items`` of a scatter: how many items there are, and the items in chunks of `slots.CHUNK`; ``failed`` of an item
    visit: how many of its items failed; ``notes``: what it said while it ran. For the history: ``attempts`` is the
    number of the last attempt made (0: the visit's), which ``took`` so many seconds.
    """

    visit: Visit
    output: Cell
    action: str | None = None
    writes: Mapping[str, Cell] | None = None
    items: tuple[int, tuple[Cell, ...]] | None = None
    failed: int = 0
    notes: Notes | None = None
    attempts: int = 0
    took: float | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """User code failed; ``attempts`` is the number of the last attempt made, which ``took`` so many seconds;
    ``random`` spreads the retry's delay."""

    visit: Visit
    error: ErrorInfo
    retryable: bool = True
    fatal: bool = False
    attempts: int = 0
    random: float = 0.5
    notes: Notes | None = None
    took: float | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    """A draining visit is not worked on any more."""

    visit: Visit


@dataclass(frozen=True, slots=True)
class Parked:
    """A READY visit cannot be executed by the worker that got it.

    It is due again after ``delay`` seconds, by default later each time. ``again``: it may have been begun before.
    """

    visit: Visit
    reason: str
    delay: float | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class Unparked:
    """The turn of a visit that is parked by a limit may have come, however long it was to wait."""

    node: int
    visit: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the run as cancelled."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Signal:
    """Something a wait waits for. ``id`` tells a repeated signal from another one; ``visit`` None: the current one."""

    node: int
    payload: Cell
    action: str | None
    id: str
    visit: int | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A url was made for a webhook ``node``: ``record`` is kept with the run, as the value ``webhook`` / ``name``."""

    node: int
    name: str
    record: Cell


@dataclass(frozen=True, slots=True)
class ChildStarted:
    """A subflow's visit has made its run, and waits for it."""

    visit: Visit
    child: str


@dataclass(frozen=True, slots=True)
class ChildEnded:
    """The run of a subflow has ended: with an output and what it writes to the context, or with an error."""

    node: int
    child: str
    output: Cell = None
    writes: Mapping[str, Cell] | None = None
    error: ErrorInfo | None = None
    retryable: bool = True
    random: float = 0.5


@dataclass(frozen=True, slots=True)
class ChildAsked:
    """Somebody has looked after the runs of these subflows; it is done again, but later."""

    nodes: Collection[int]


@dataclass(frozen=True, slots=True)
class Pause:
    """Hand out nothing more; what runs may finish."""


@dataclass(frozen=True, slots=True)
class Unpause:
    """Hand out what became READY during the pause."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Set context keys, or delete those that are MISSING."""

    writes: Mapping[str, Cell]


@dataclass(frozen=True, slots=True)
class MarkCompleted:
    """Complete a node that is not settled, as if its function had returned so."""

    node: int
    output: Cell
    action: str | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """Start failed nodes of an ended run again, in a new epoch; by default all whose failure counts."""

    nodes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rollback:
    """Undo what is at and after a node and start it again, or undo everything and end the run."""

    node: int | None = None


@dataclass(frozen=True, slots=True)
class Resent:
    """The messages of these READY nodes are sent again; their activations stay."""

    nodes: Collection[int]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed. ``can`` tells whether the caller could execute a parked node's function now."""

    can: Callable[[int], bool]


Command = Pause | Unpause | Patch | MarkCompleted | Retry | Rollback
EngineEvent = (
    Completed | Failed | Dropped | Parked | Unparked | Cancel | Resent | Tick | Signal | Endpoint
    | ChildStarted | ChildEnded | ChildAsked | Command
)  # fmt: skip
