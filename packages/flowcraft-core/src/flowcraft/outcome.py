"""From what executing a visit came to, to the event that the engine is told."""

from __future__ import annotations

from flowcraft.engine.events import Completed, Failed, Visit
from flowcraft.executor import ExecutionOutcome
from flowcraft.model import ErrorInfo

__all__ = ["outcome_event", "storable_text"]


def outcome_event(visit: Visit, outcome: ExecutionOutcome) -> Completed | Failed:
    """The event of an outcome, for the activation ``visit``."""
    took = None if outcome.took is None else round(outcome.took, 6)
    if outcome.ok:
        return Completed(
            visit, outcome.output, outcome.action, outcome.writes, outcome.items, outcome.failed, outcome.notes,
            outcome.attempts, took,
        )  # fmt: skip
    error = outcome.error or ErrorInfo("NodeFailed", "")
    told = ErrorInfo(storable_text(error.kind), storable_text(error.text), storable_text(error.trace))
    return Failed(visit, told, outcome.retryable, outcome.fatal, outcome.attempts, outcome.random, outcome.notes, took)


def storable_text(text: str) -> str:
    """Text that can be stored: what users raise may hold lone surrogates."""
    return text.encode("utf-8", "replace").decode()
