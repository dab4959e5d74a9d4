"""What came of a check."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from flowcraft.conformance.checks import Check
from flowcraft.conformance.expecting import Violated
from flowcraft.conformance.target import PortName

__all__ = ["CERTIFYING", "OUTCOMES", "Finding", "Outcome", "Result", "told"]

#: ``not applicable``: the port is not offered, or a capability that the check needs is not declared · ``deviation``: it
#: fails, and the target says why · ``blocked``: it could not be run: no backend, or no tool for it
#: · ``deselected``: nobody asked for it.
Outcome = Literal["pass", "fail", "not applicable", "deviation", "blocked", "deselected"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("pass", "fail", "not applicable", "deviation", "blocked", "deselected")
#: Every other outcome keeps the level of its check from being reached.
CERTIFYING: Final[frozenset[Outcome]] = frozenset({"pass", "not applicable"})
_FRAMES: Final = 6


@dataclass(frozen=True, slots=True)
class Finding:
    """An outcome, why (one sentence or a few), and where in the code it was found."""

    outcome: Outcome
    evidence: str = ""
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one check. ``seconds``: of real time, with opening and dropping the place."""

    check_id: str
    port: PortName
    level: int
    outcome: Outcome
    seconds: float = 0.0
    evidence: str = ""
    trace: str = ""

    @staticmethod
    def of(check: Check, finding: Finding, seconds: float = 0.0) -> Result:
        """The finding, as this check's."""
        return Result(check.id, check.port, check.level, finding.outcome, seconds, finding.evidence, finding.trace)


def told(error: BaseException, outcome: Outcome = "fail", before: str = "") -> Finding:
    """An exception as a finding: its text, and the last frames of where it was raised."""
    leaf = error
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    text = str(leaf)
    if not isinstance(leaf, Violated):
        text = f"{type(leaf).__name__}: {text}" if text else type(leaf).__name__
    return Finding(outcome, before + text[:4000], _short(leaf))


def _short(error: BaseException) -> str:
    """The innermost frames, one a line, without those of the suite's own machinery."""
    own = str(Path(__file__).parent)
    machinery = {str(Path(own, name)) for name in ("attempt.py", "elsewhere.py", "env.py", "expecting.py")}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename not in machinery]
    return "\n".join(
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}: {frame.line or ''}".rstrip(": ")
        for frame in frames[-_FRAMES:]
    )
