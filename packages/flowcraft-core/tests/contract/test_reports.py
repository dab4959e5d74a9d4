"""Reports: for the terminal, as JSON, JUnit and Markdown, and compared."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from flowcraft.conformance.card import as_markdown, as_text, explained
from flowcraft.conformance.contract import CATALOGUE
from flowcraft.conformance.junit import to_junit
from flowcraft.conformance.recorded import Difference, Recorded, differences, from_json, to_json
from flowcraft.conformance.results import OUTCOMES, Result
from flowcraft.conformance.runner import run
from flowcraft.conformance.targets import memory
from flowcraft.errors import InvalidRequest

from .making import check, report, result

EVERY = report(*(result(outcome, 1, "store", outcome.replace(" ", "-")) for outcome in OUTCOMES))
HOSTILE = Result("store.t.hostile", "store", 1, "fail", 0.1, "\x1b[31m<red>|\x00\ud800 & ünïcode ' \" " + "long " * 200)

SCHEMA = {
    "schema": int, "target": str, "profile": str, "complete": bool, "overall": int, "levels": dict, "offers": list,
    "opened": list, "bound": bool, "capabilities": dict, "tools": list, "environment": dict, "started_at": float,
    "seconds": float, "counts": dict, "warnings": list, "results": list,
}  # fmt: skip
RESULT = {"id": str, "port": str, "level": int, "outcome": str, "seconds": float, "evidence": str, "trace": str}


def test_json_has_the_fields_of_its_schema_in_their_order() -> None:
    row = json.loads(to_json(EVERY))
    assert {name: type(value) for name, value in row.items()} == SCHEMA
    assert list(row) == list(SCHEMA)
    assert row["schema"] == 1
    assert set(row["environment"]) == {"core", "python", "platform"}
    assert set(row["capabilities"]) == {"store", "queue"}
    assert row["capabilities"]["store"]["durable"] is True
    assert row["counts"] == dict.fromkeys(OUTCOMES, 1)
    for found in row["results"]:
        assert {name: type(value) for name, value in found.items()} == RESULT


async def test_json_of_a_real_run_is_read_again() -> None:
    made = await run(memory, [each for each in CATALOGUE if each.id.startswith("store.create")])
    read = from_json(to_json(made))
    assert read.outcomes == {found.check_id: found.outcome for found in made.results}
    assert (read.target, read.profile, read.complete, read.overall) == ("memory", "2026.1", False, 0)
    assert read.levels == made.levels


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "{}", '{"schema": 1}', "[" * 5000, b"\xff", '{"schema": 1, "results": 3}']
)
def test_what_is_no_report_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"old\.json"):
        from_json(text, "old.json")


def test_a_report_of_another_schema_is_refused() -> None:
    row = json.loads(to_json(EVERY)) | {"schema": 2}
    with pytest.raises(InvalidRequest, match="has the schema 2, this version knows 1"):
        from_json(json.dumps(row))


def recorded(level: int = 1, **outcomes: str) -> Recorded:
    return Recorded("mine", "2026.1", True, level, {"store": level}, outcomes)


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ("pass", "fail", "worse"),
        ("pass", "blocked", "worse"),
        ("pass", "deviation", "worse"),
        ("pass", "deselected", "worse"),
        ("pass", "not applicable", "worse"),
        ("not applicable", "fail", "worse"),
        ("not applicable", "pass", "other"),
        ("fail", "pass", "better"),
        ("deviation", "pass", "better"),
        ("fail", "blocked", "other"),
        ("fail", "not applicable", "better"),
    ],
)
def test_differences_of_a_check(old: str, new: str, verdict: str) -> None:
    assert differences(recorded(a=old), recorded(a=new)) == [Difference("a", old, new, verdict)]  # type: ignore[arg-type]


def test_differences_of_levels_and_of_checks_that_come_and_go() -> None:
    assert differences(recorded(a="pass"), recorded(a="pass")) == []
    assert differences(recorded(2), recorded(1)) == [
        Difference("level overall", "2", "1", "worse"),
        Difference("level of store", "2", "1", "worse"),
    ]
    assert [each.verdict for each in differences(recorded(1), recorded(3))] == ["better", "better"]
    assert differences(recorded(gone="pass"), recorded(come="pass", bad="fail")) == [
        Difference("gone", "pass", None, "worse"),
        Difference("come", None, "pass", "other"),
        Difference("bad", None, "fail", "worse"),
    ]


def test_junit() -> None:
    root = ET.fromstring(to_junit(EVERY))  # noqa: S314 - our own
    counts = {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "6", "failures": "1", "errors": "1", "skipped": "3"}
    cases = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert cases == {
        "store.t1.pass": [], "store.t1.fail": ["failure"], "store.t1.not-applicable": ["skipped"],
        "store.t1.deviation": ["skipped"], "store.t1.blocked": ["error"], "store.t1.deselected": ["skipped"],
    }  # fmt: skip
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.get("message") == "fail: what was seen"
    properties = {each.get("name"): each.get("value") for each in root.iter("property")}
    assert properties == {"profile": "2026.1", "complete": "true", "level.overall": "0", "level.store": "1"}


def test_junit_of_any_evidence_is_xml() -> None:
    found = ET.fromstring(to_junit(report(HOSTILE))).find(".//failure")  # noqa: S314 - our own
    assert found is not None
    assert "<red>|" in (found.text or "")
    assert "ünïcode" in (found.text or "")


def test_the_card_of_every_outcome() -> None:
    known = {found.check_id: check(name=found.check_id) for found in EVERY.results}
    text = as_text(replace(EVERY, warnings=("look at this",)), checks=known)
    assert text == CARD
    assert max(map(len, text.splitlines())) <= 80


CARD = """\
Conformance of mine, profile 2026.1
flowcraft-core 1.2.3, CPython 3.11, Plan 9

port          level                pass    fail     n/a    dev. blocked not run
store         1 embedded              1       1       1       1       1       1

FAIL  store.t1.fail
  contract  The contract holds.
  seen      what was seen
  more      flowcraft conformance explain store.t1.fail

BLOCKED  store.t1.blocked
  contract  The contract holds.
  reason    what was seen
  more      flowcraft conformance explain store.t1.blocked

DEVIATION  store.t1.deviation
  contract  The contract holds.
  reason    what was seen
  more      flowcraft conformance explain store.t1.deviation

not applicable: 1 check, what was seen

held back: store at 1, by store.t1.fail (fail)

warning: look at this
1 pass, 1 fail, 1 not applicable, 1 deviation, 1 blocked, 1 deselected; 2.0 s
Certified by port (no whole system is offered): store 1
"""


def test_the_card_says_when_nothing_is_certified() -> None:
    text = as_text(replace(EVERY, complete=False))
    assert "Nothing is certified" in text
    assert "embedded" not in text
    assert "**not certified**" in as_markdown(replace(EVERY, complete=False))


def test_the_card_of_a_whole_system() -> None:
    text = as_text(replace(report(result("pass")), levels={"store": 2, "system": 2}, overall=2))
    assert text.endswith("1 pass; 2.0 s\nOverall level: 2 durable\n")


def test_the_card_says_what_the_overall_level_ends_at() -> None:
    made = report(result("fail", 3), result("pass", 2), result("pass", 2, "system"), result("fail", 4, "system"))
    text = as_text(replace(made, levels={"store": 2, "system": 3}, overall=2))
    held = [line for line in text.replace("\n  ", " ").splitlines() if line.startswith("held back")]
    assert held == [
        "held back: store at 2, by store.t3.one (fail); the overall level ends there, too",
        "held back: system at 3, by system.t4.one (fail)",
    ]


def test_nothing_that_a_backend_says_steers_a_terminal() -> None:
    for text in (as_text(report(HOSTILE)), as_markdown(report(HOSTILE))):
        assert "\x1b" not in text
        assert "\x00" not in text
        text.encode("utf-8", "backslashreplace")
    assert max(map(len, as_text(report(HOSTILE)).splitlines())) <= 80


def test_colours_mark_words_and_change_none() -> None:
    marked = as_text(EVERY, lambda text, meaning: f"<{meaning}>{text}</>")
    assert "<bad>FAIL  store.t1.fail</>" in marked
    assert "<doubtful>DEVIATION" in marked


def test_markdown() -> None:
    text = as_markdown(EVERY)
    assert "| store | 1 embedded | 1 | 1 | 1 | 1 | 1 | 1 |" in text
    assert "- `store.t1.fail`: what was seen" in text


def test_every_check_of_the_catalogue_explains_itself() -> None:
    assert len({each.id for each in CATALOGUE}) == len(CATALOGUE)
    for each in CATALOGUE:
        text = explained(each)
        assert text.startswith(each.id + "\n\n")
        assert each.contract.endswith("."), f"{each.id}: the sentence of the contract"
        assert each.why.strip(), f"{each.id} does not say why it is there"
        assert max(map(len, text.splitlines())) <= 80
        assert each.id.startswith(f"{each.port}.")
        assert 1 <= each.level <= 4
