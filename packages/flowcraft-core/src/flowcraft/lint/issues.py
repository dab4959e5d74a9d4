"""What lint can find: the codes, a finding, and the report with all of them. docs/lint.md has a row for each code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["LintCode", "LintIssue", "LintReport"]

LintCode = Literal[
    # errors: the blueprint cannot run here, or a part of it can never run
    "INVALID_BLUEPRINT",
    "INVALID_EDGE_SOURCE",
    "INVALID_EDGE_TARGET",
    "INVALID_EXPRESSION",
    "MISSING_NODE_IMPLEMENTATION",
    "FUNCTION_VERSION_MISMATCH",
    "JOIN_NEVER_FIRES",
    "UNREACHABLE_NODE",
    "INVALID_LOOP_CONDITION",
    "LOOP_WITHOUT_CONTINUE",
    "LOOP_NOT_CLOSED",
    "INVALID_BATCH_WORKER_KEY",
    "INVALID_BATCH_OPTION",
    "BATCH_WITHOUT_GATHER",
    "GATHER_WITHOUT_BATCH",
    "INVALID_SUBFLOW_BLUEPRINT_ID",
    "INVALID_SUBFLOW_MAPPING",
    "ENDLESS_SUBFLOW",
    "INVALID_DURATION",
    "INVALID_EVENT_NAME",
    "INVALID_WEBHOOK_WAIT",
    "COMPENSATION_WITH_EDGES",
    "INVALID_LIMIT_KEY",
    # warnings: it runs, but hardly as its author meant it
    "ENDLESS_CYCLE_IGNORED",
    "ENDLESS_LOOP",
    "LOOP_WITHOUT_BREAK",
    "EARLY_EXIT_INTO_BODY",
    "CYCLE_WITHOUT_ENTRY",
    "ORPHAN_NODE",
    "NO_TERMINAL_NODE",
    "DUPLICATE_EDGE",
    "EDGE_NEVER_TAKEN",
    "ALL_JOIN_OF_ALTERNATIVES",
    "FALLBACK_ALSO_REGULAR",
    "FALLBACK_SHARES_TARGET",
    "FALLBACK_ROUTES_ONCE",
    "FALLBACK_DRAGS_INTO_CYCLE",
    "UNKNOWN_NAME",
    "TIMEOUT_BEYOND_RUN",
    "WAIT_TIMEOUT_WITHOUT_ROUTE",
    "TIMEOUT_ROUTE_WITHOUT_TIMEOUT",
    "WEBHOOK_WITHOUT_WAIT",
    "AMBIGUOUS_WEBHOOK",
]
_ERRORS: frozenset[LintCode] = frozenset(
    {
        "INVALID_BLUEPRINT",
        "INVALID_EDGE_SOURCE",
        "INVALID_EDGE_TARGET",
        "INVALID_EXPRESSION",
        "MISSING_NODE_IMPLEMENTATION",
        "FUNCTION_VERSION_MISMATCH",
        "JOIN_NEVER_FIRES",
        "UNREACHABLE_NODE",
        "INVALID_LOOP_CONDITION",
        "LOOP_WITHOUT_CONTINUE",
        "LOOP_NOT_CLOSED",
        "INVALID_BATCH_WORKER_KEY",
        "INVALID_BATCH_OPTION",
        "BATCH_WITHOUT_GATHER",
        "GATHER_WITHOUT_BATCH",
        "INVALID_SUBFLOW_BLUEPRINT_ID",
        "INVALID_SUBFLOW_MAPPING",
        "ENDLESS_SUBFLOW",
        "INVALID_DURATION",
        "INVALID_EVENT_NAME",
        "INVALID_WEBHOOK_WAIT",
        "COMPENSATION_WITH_EDGES",
        "INVALID_LIMIT_KEY",
    }
)


@dataclass(frozen=True, slots=True)
class LintIssue:
    """One finding. ``subject`` is the id of a node, ``source -> target`` of an edge, or the id of the blueprint.

    ``message`` says what is wrong, ``remedy`` what to do.
    """

    code: LintCode
    subject: str
    message: str
    remedy: str

    @property
    def severity(self) -> Literal["error", "warning"]:
        """``error``: it cannot work; ``warning``: it works, but hardly as it was meant."""
        return "error" if self.code in _ERRORS else "warning"

    def to_dict(self) -> dict[str, str]:
        """The finding as JSON data."""
        told = {"code": self.code, "severity": self.severity, "subject": self.subject}
        return {**told, "message": self.message, "remedy": self.remedy}

    def __str__(self) -> str:
        return f"{self.severity}: {self.code}: {self.message}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class LintReport:
    """All findings about one blueprint, errors first."""

    blueprint_id: str
    issues: tuple[LintIssue, ...]

    @property
    def is_valid(self) -> bool:
        """Whether there is no error; there may be warnings."""
        return not self.errors

    @property
    def errors(self) -> tuple[LintIssue, ...]:
        """What cannot work."""
        return tuple(issue for issue in self.issues if issue.severity == "error")

    @property
    def warnings(self) -> tuple[LintIssue, ...]:
        """What works, but hardly as it was meant."""
        return tuple(issue for issue in self.issues if issue.severity == "warning")
