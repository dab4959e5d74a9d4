"""Every error that Flowcraft raises, as one tree: the type decides the reaction, the text is for people.

::

    FlowcraftError
    ├── DefinitionError            a blueprint, flow or expression that can never work
    │   ├── ExpressionError        an expression that does not parse; carries the position
    │   └── CronError              a cron expression that does not parse; carries the name of the field
    ├── RunError                   a request about a run that cannot be served
    │   ├── RunNotFound
    │   ├── RunConflict            the id is taken by a run with another input or blueprint
    │   ├── RunFailed              raised by ``RunResult.raise_for_failure``
    │   ├── MigrationRefused       the run cannot be moved to this blueprint; names the nodes
    │   ├── ScheduleNotFound
    │   ├── ScheduleConflict       the id is taken by a schedule that says something else
    │   ├── DeadLetterNotFound
    │   ├── NotReplayable          a dead letter that would only die again
    │   ├── NotWaiting             a signal for a node that is no wait
    │   ├── SignalConflict         another signal was accepted, or kept, for this visit
    │   ├── TooLate                a signal for a visit that is over, or a run that has ended
    │   ├── MailboxFull            too many signals are kept for waits that have not begun
    │   ├── CommandRefused         what was commanded cannot be done to this run now
    │   └── InvalidRequest         a value of the request is refused: id, limit, option
    │       └── InvalidPayload     a signal's payload is not what its wait declares
    ├── NodeError                  what went wrong in one visit of a node
    │   ├── NodeFailed             user code raised
    │   ├── NodeTimedOut           user code ran longer than ``timeout``
    │   ├── NodeNotRegistered      no function for ``uses``
    │   ├── ConditionError         an expression could not be evaluated
    │   ├── VisitLimitReached      a cycle went round more often than allowed
    │   ├── DeadlineExceeded       the run's deadline passed
    │   └── Poisoned               the visit killed its worker again and again
    ├── AdapterError               the infrastructure
    │   ├── Unavailable            try again
    │   ├── UnknownOutcome         the write may or may not have happened: reload and look
    │   ├── LeaseLost              another worker owns the visit now
    │   └── Misconfigured          never works as configured
    │       └── KeyMissing         what is stored is encrypted with a key that this process does not have
    └── SerializationError         a value that cannot be stored
        ├── PayloadTooLarge
        └── Tampered               stored bytes are not what was written
"""

from __future__ import annotations

__all__ = [
    "AdapterError",
    "CommandRefused",
    "ConditionError",
    "CronError",
    "DeadLetterNotFound",
    "DeadlineExceeded",
    "DefinitionError",
    "ExpressionError",
    "FatalError",
    "FlowcraftError",
    "InvalidPayload",
    "InvalidRequest",
    "KeyMissing",
    "LeaseLost",
    "MailboxFull",
    "MigrationRefused",
    "Misconfigured",
    "NodeError",
    "NodeFailed",
    "NodeNotRegistered",
    "NodeTimedOut",
    "NotReplayable",
    "NotWaiting",
    "PayloadTooLarge",
    "Poisoned",
    "RunConflict",
    "RunError",
    "RunFailed",
    "RunNotFound",
    "ScheduleConflict",
    "ScheduleNotFound",
    "SerializationError",
    "SignalConflict",
    "Tampered",
    "TooLate",
    "Unavailable",
    "UnknownOutcome",
    "VisitLimitReached",
]


class FlowcraftError(Exception):
    """The root of all errors of this library."""


class DefinitionError(FlowcraftError):
    """A blueprint or flow that cannot work. ``subject`` names the offending node, edge or field."""

    def __init__(self, message: str, *, subject: str | None = None) -> None:
        super().__init__(message)
        self.subject = subject


class ExpressionError(DefinitionError):
    """An expression that does not parse. ``position`` is the 0-based index into ``source``."""

    def __init__(self, message: str, *, source: str, position: int, subject: str | None = None) -> None:
        super().__init__(message, subject=subject)
        self.source = source
        self.position = position


class CronError(DefinitionError):
    """A cron expression that does not parse. ``field`` names the part that is wrong, None if it is the whole."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message, subject=field)
        self.field = field


class RunError(FlowcraftError):
    """A request about a run that cannot be served."""


class RunNotFound(RunError):
    """No run with this id: it never existed, or its retention time has passed."""


class RunConflict(RunError):
    """The run id is taken by a run that was started with another input or blueprint."""


class RunFailed(RunError):
    """The run ended ``failed`` or ``cancelled``; ``errors`` holds one line per failed node."""

    def __init__(self, message: str, *, errors: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.errors = errors


class MigrationRefused(RunError):
    """The run cannot be moved to this blueprint; ``nodes`` are the ids of the nodes that stand in the way."""

    def __init__(self, message: str, *, nodes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.nodes = nodes


class ScheduleNotFound(RunError):
    """No schedule with this id: it never existed, or was deleted."""


class ScheduleConflict(RunError):
    """The id is taken by a schedule of another flow, time or input; delete that one first."""


class NotWaiting(RunError):
    """A signal for a node that waits for none: it is no wait, or the run has no such node."""


class SignalConflict(RunError):
    """Another signal was accepted for this visit, or is kept for it: there is exactly one."""


class TooLate(RunError):
    """A signal for a visit that is over, or for a run that has ended."""


class MailboxFull(RunError):
    """Too many signals are kept for waits of this run that have not begun: send it again when some have."""


class CommandRefused(RunError):
    """What was commanded cannot be done to this run now; ``reason`` says why."""

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class InvalidRequest(RunError):
    """A value of the request is refused (an id, a limit, an option); the message says which and why."""


class DeadLetterNotFound(RunError):
    """No dead letter with this id: it was replayed or deleted, or the broker cannot find it by its id any more."""


class NotReplayable(RunError):
    """The dead letter cannot be replayed, and stays; the message says why."""


class InvalidPayload(InvalidRequest):
    """A signal's payload is not of the type that its wait declares; ``field`` says where in it (``$.amount``)."""

    def __init__(self, message: str, *, field: str = "$") -> None:
        super().__init__(message)
        self.field = field


class NodeError(FlowcraftError):
    """What went wrong in one visit of a node."""


class NodeFailed(NodeError):
    """The node's function raised an exception, which is the ``__cause__`` where it is at hand."""


class FatalError(NodeFailed):
    """Raise this in a node to fail it at once: no retry and no fallback."""


class NodeTimedOut(NodeError):
    """The node ran longer than its ``timeout``."""


class NodeNotRegistered(NodeError):
    """The registry has no function for the node's ``uses``."""


class ConditionError(NodeError):
    """An expression (condition or transform) of an edge could not be evaluated with these values."""


class VisitLimitReached(NodeError):
    """A cycle wanted to go round more often than its limit allows."""


class DeadlineExceeded(NodeError):
    """The run's deadline passed before it ended."""


class Poisoned(NodeError):
    """The visit killed its worker again and again; it is not tried any more."""


class AdapterError(FlowcraftError):
    """The infrastructure behind a port: never counts as a failure of a node."""


class Unavailable(AdapterError):
    """The backend cannot be reached or is overloaded at the moment: nothing was written, try again."""


class UnknownOutcome(AdapterError):
    """The backend did not say whether a write happened: reload and look, never guess."""


class LeaseLost(AdapterError):
    """Another worker owns the visit now."""


class Misconfigured(AdapterError):
    """The backend or its settings can never work like this; the message says what to change."""


class KeyMissing(Misconfigured):
    """What is stored was encrypted with a key that this process does not have; ``key_id`` names it.

    No fault of the value's or the node's: whoever has the key can read it.
    """

    def __init__(self, message: str, *, key_id: str = "") -> None:
        super().__init__(message)
        self.key_id = key_id


class SerializationError(FlowcraftError):
    """A value that cannot be stored exactly; ``path`` says where in the value (``$.items[3]``)."""

    def __init__(self, message: str, *, path: str = "$") -> None:
        super().__init__(message)
        self.path = path


class PayloadTooLarge(SerializationError):
    """A value, message or document beyond the limit of the backend; never retried."""


class Tampered(SerializationError):
    """Stored bytes are damaged, or not what was written: encrypted with the key that is here, and changed since."""
