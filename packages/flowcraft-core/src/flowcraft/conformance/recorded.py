"""A report as JSON, and what changed between two of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, cast

from flowcraft.conformance.report import Report
from flowcraft.conformance.results import CERTIFYING, OUTCOMES
from flowcraft.errors import InvalidRequest

__all__ = ["SCHEMA", "Difference", "Recorded", "differences", "from_json", "to_json"]

#: Raised when a field changes its meaning or goes away; new fields may come without it.
SCHEMA: Final = 1


def to_json(report: Report) -> str:
    """The whole report as one JSON document, its keys always in the same order."""
    facts = report.facts
    row = {
        "schema": SCHEMA,
        "target": report.target,
        "profile": report.profile,
        "complete": report.complete,
        "overall": report.overall,
        "levels": dict(report.levels),
        "offers": sorted(facts.offers),
        "opened": sorted(facts.opened),
        "bound": facts.bound,
        "capabilities": {
            "store": None if facts.store is None else asdict(facts.store),
            "queue": None if facts.queue is None else asdict(facts.queue),
        },
        "tools": sorted(facts.tools),
        "environment": asdict(report.environment),
        "started_at": report.started_at,
        "seconds": round(report.seconds, 3),
        "counts": {outcome: report.count(outcome) for outcome in OUTCOMES},
        "warnings": list(report.warnings),
        "results": [
            {
                "id": result.check_id,
                "port": result.port,
                "level": result.level,
                "outcome": result.outcome,
                "seconds": round(result.seconds, 4),
                "evidence": result.evidence,
                "trace": result.trace,
            }
            for result in report.results
        ],
    }
    return json.dumps(row, indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a report said: levels by port, outcomes by check."""

    target: str
    profile: str
    complete: bool
    overall: int
    levels: Mapping[str, int]
    outcomes: Mapping[str, str]


def from_json(text: str | bytes, name: str = "the report") -> Recorded:
    """Read a report.

    Raises:
        InvalidRequest: it is none, or of a schema that this version does not know; ``name`` tells which.
    """
    try:
        row = cast("dict[str, Any]", json.loads(text))
        if row["schema"] != SCHEMA:
            raise InvalidRequest(f"{name} has the schema {row['schema']!r}, this version knows {SCHEMA}")
        return Recorded(
            str(row["target"]),
            str(row["profile"]),
            bool(row["complete"]),
            int(row["overall"]),
            {str(port): int(level) for port, level in row["levels"].items()},
            {str(result["id"]): str(result["outcome"]) for result in row["results"]},
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidRequest(f"{name} is no report of `flowcraft conformance run --json`") from error


@dataclass(frozen=True, slots=True)
class Difference:
    """``what``: a check's id, or a port's or the target's level · ``old``, ``new``: None where there was none."""

    what: str
    old: str | None
    new: str | None
    verdict: Literal["worse", "better", "other"]


def differences(old: Recorded, new: Recorded) -> list[Difference]:
    """What changed, levels first. A level that went down is worse, and a check that certified and does no longer."""
    return [*_levels(old, new), *_outcomes(old, new)]


def _levels(old: Recorded, new: Recorded) -> Iterator[Difference]:
    before, after = {"overall": old.overall, **old.levels}, {"overall": new.overall, **new.levels}
    for port in {**before, **after}:
        one, other = before.get(port, 0), after.get(port, 0)
        if one != other or (port in before) != (port in after):
            name = "level overall" if port == "overall" else f"level of {port}"
            yield Difference(name, _text(before.get(port)), _text(after.get(port)), _worse_if(other < one, other > one))


def _outcomes(old: Recorded, new: Recorded) -> Iterator[Difference]:
    for check_id in {**old.outcomes, **new.outcomes}:
        one, other = old.outcomes.get(check_id), new.outcomes.get(check_id)
        if one != other:
            held, holds = one in CERTIFYING, other in CERTIFYING
            appears = one is None
            worse = (held and not holds) or (appears and not holds) or (one == "pass" and other == "not applicable")
            yield Difference(check_id, one, other, _worse_if(worse, holds and not held and not appears))


def _worse_if(worse: bool, better: bool) -> Literal["worse", "better", "other"]:
    return "worse" if worse else "better" if better else "other"


def _text(level: int | None) -> str | None:
    return None if level is None else str(level)
