"""A report as JUnit XML, for build servers."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree as ET

from flowcraft.conformance.checks import Check
from flowcraft.conformance.contract import CATALOGUE
from flowcraft.conformance.report import Report
from flowcraft.conformance.results import Result

__all__ = ["to_junit"]


def to_junit(report: Report, checks: Mapping[str, Check] | None = None) -> str:
    """One test suite, a test case for each check. What is blocked is an error; what is a deviation is skipped."""
    known = {check.id: check for check in CATALOGUE} if checks is None else checks
    suite = ET.Element(
        "testsuite",
        name=f"flowcraft conformance {report.profile}: {report.target}",
        tests=str(len(report.results)),
        failures=str(report.count("fail")),
        errors=str(report.count("blocked")),
        skipped=str(sum(report.count(kind) for kind in ("not applicable", "deviation", "deselected"))),
        time=f"{report.seconds:.3f}",
    )
    properties = ET.SubElement(suite, "properties")
    rows = {"profile": report.profile, "complete": str(report.complete).lower(), "level.overall": str(report.overall)}
    rows |= {f"level.{port}": str(level) for port, level in report.levels.items()}
    for name, value in rows.items():
        ET.SubElement(properties, "property", name=name, value=value)
    for result in report.results:
        _add(suite, result, known)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


def _add(suite: ET.Element, result: Result, known: Mapping[str, Check]) -> None:
    case = ET.SubElement(
        suite, "testcase", classname=f"flowcraft.conformance.{result.port}", name=result.check_id,
        time=f"{result.seconds:.4f}",
    )  # fmt: skip
    if result.outcome == "pass":
        return
    kind = {"fail": "failure", "blocked": "error"}.get(result.outcome, "skipped")
    found = ET.SubElement(case, kind, message=_clean(f"{result.outcome}: {result.evidence}".rstrip(": ")))
    if kind != "skipped":
        check = known.get(result.check_id)
        found.text = _clean("\n".join(filter(None, (check.contract if check else "", result.evidence, result.trace))))


def _clean(text: str) -> str:
    """Without the characters that XML 1.0 has no way to write."""
    return "".join(char if char in "\t\n" or (char.isprintable() and char < "\ufffe") else "\ufffd" for char in text)
