"""The checker sees each broken promise, and nothing else, in evidence made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from flowcraft.model import Event

from .checker import Evidence, judge
from .evidence import Echo, Execution, Story, Strike
from .settings import Settings

WALL = 1_000.0
SETTINGS = Settings("nowhere", lease_ttl=2.0, visibility=3.0, resend=8.0)


def ran(begin: float, end: float | None, process: str = "w1", *, attempt: int = 1, how: str = "ok") -> Execution:
    return Execution(process, "run", "a", 1, attempt, begin, WALL + begin, "a", "nonce", 0, False, end, how)


def history(*types: str, at: float = 1.0) -> list[Event]:
    return [
        Event("run", seq, kind, WALL + at, "a" if kind.startswith("node") else None, 1, 1, {"by": "a"})
        for seq, kind in enumerate(types, 1)
    ]


def killed(at: float, process: str = "w1") -> Strike:
    return Strike("KILL", process, at, WALL + at, at + 0.01)


def paused(at: float, until: float, process: str = "w1", *, locked: bool = False) -> Strike:
    return Strike("STOP", process, at, WALL + at, until, locked)


WELL = Evidence(
    [ran(0.5, 0.9)], [], {"run": Story("run", "completed", history("run:started", "node:completed", "run:completed"), "k")},
    {"run": {"k"}}, {"run"},
)  # fmt: skip


def promises(evidence: Evidence, settings: Settings = SETTINGS) -> set[str]:
    return {violation.promise for violation in judge(settings, evidence).violations}


def told(status: str, events: Sequence[Event], key: str = "k") -> Evidence:
    return replace(WELL, stories={"run": Story("run", status, events, key)})


def executed(*executions: Execution, strikes: Sequence[Strike] = (), at: float = 100.0) -> Evidence:
    events = history("run:started", "node:completed", "run:completed", at=at)
    return replace(
        WELL, executions=executions, strikes=strikes, stories={"run": Story("run", "completed", events, "k")}
    )


def test_nothing_is_wrong() -> None:
    assert not promises(WELL)
    assert not judge(SETTINGS, WELL).repetitions


@pytest.mark.parametrize(
    ("promise", "evidence"),
    [
        ("none lost", told("running", history("run:started"))),
        ("none lost", replace(WELL, stories={})),
        ("right result", told("completed", history("run:started", "node:completed", "run:completed"), "other")),
        ("started once", told("completed", history("run:started", "run:started", "node:completed", "run:completed"))),
        (
            "none finished twice",
            told("completed", history("run:started", "node:completed", "run:completed", "run:completed")),
        ),
        ("none finished twice", told("completed", history("run:started", "node:completed", "run:failed"))),
        (
            "no visit committed twice",
            told("completed", history("run:started", "node:completed", "node:completed", "run:completed")),
        ),
        (
            "no visit committed twice",
            told("completed", history("run:started", "node:failed", "node:completed", "run:completed")),
        ),
        ("history without gaps", told("completed", history("run:started", "node:completed", "run:completed")[::2])),
        ("what completed was executed", replace(WELL, executions=[])),
        ("nothing is executed after its commit", replace(WELL, executions=[ran(0.5, 0.9), ran(1.5, 1.9, "w2")])),
        ("nothing is left", replace(WELL, messages_left=1)),
        ("processes behave", replace(WELL, troubles=["w1 ended with 1"])),
        (
            "no write lost",
            replace(WELL, stories={"run": replace(WELL.stories["run"], written={"a": ({"n": 1}, {"n": 2})})}),
        ),
    ],
)
def test_a_broken_promise_is_named(promise: str, evidence: Evidence) -> None:
    assert promise in promises(evidence)


@pytest.mark.parametrize(
    ("cause", "evidence"),
    [
        ("killed while it was executed", executed(ran(1, None), ran(5, 6, "w2"), strikes=[killed(2)])),
        ("killed before its outcome was committed", executed(ran(1, 1.5), ran(5, 6, "w2"), strikes=[killed(2)])),
        (
            "killed while it was executed",  # in the second of its short attempts
            executed(
                ran(1, 1.2, how="error"), ran(1.3, None, attempt=2), ran(5, 6, "w2", how="error"),
                ran(6.1, 7, "w2", attempt=2), strikes=[killed(2)],
            ),
        ),
    ],
)  # fmt: skip
def test_a_repetition_after_a_kill_has_a_cause(cause: str, evidence: Evidence) -> None:
    verdict = judge(SETTINGS, evidence)
    assert not verdict.violations
    assert [repetition.cause for repetition in verdict.repetitions] == [cause]


def test_a_repetition_after_a_pause_has_a_cause_and_its_late_outcome_is_counted() -> None:
    verdict = judge(replace(SETTINGS, signal="STOP"), executed(ran(1, 9), ran(5, 6, "w2"), strikes=[paused(2, 8)]))
    assert not verdict.violations
    assert [repetition.cause for repetition in verdict.repetitions] == ["paused beyond its lease while it was executed"]
    assert verdict.fenced == 1


def test_who_was_paused_just_before_it_began_did_not_know_better() -> None:
    repeated = executed(ran(5, 6, "w2"), ran(8.02, 8.2), strikes=[paused(2, 8)], at=6.0)
    verdict = judge(replace(SETTINGS, signal="STOP"), repeated)
    assert not verdict.violations
    assert list(verdict.causes) == ["paused beyond its lease when it was about to begin"]
    repeated = executed(ran(5, 6, "w2"), ran(9.5, 9.7), strikes=[paused(2, 8)], at=6.0)
    assert promises(repeated, replace(SETTINGS, signal="STOP")) == {
        "every repetition has a cause", "nothing is executed after its commit",
    }  # fmt: skip


def test_a_paused_process_that_holds_the_file_is_a_cause_for_others() -> None:
    repeated = executed(ran(1, 9), ran(5, 6, "w2"), strikes=[paused(2, 8, "w3", locked=True)])
    assert not promises(repeated, replace(SETTINGS, signal="STOP"))
    repeated = executed(ran(1, 9), ran(5, 6, "w2"), strikes=[paused(2, 8, "w3")])
    assert promises(repeated, replace(SETTINGS, signal="STOP")) == {"every repetition has a cause"}


@pytest.mark.parametrize(
    "evidence",
    [
        executed(ran(1, None), ran(5, 6, "w2")),
        executed(ran(1, 2), ran(5, 6, "w2"), strikes=[killed(0.5)]),
        executed(ran(1, 2), ran(5, 6, "w2"), strikes=[killed(7)]),
        executed(ran(1, 2), ran(5, 6, "w2"), strikes=[killed(3, "w2"), killed(3, "w3")]),
        executed(ran(1, None), ran(2.1, 6, "w2"), strikes=[paused(2, 8)]),
    ],
    ids=["nobody hurt", "killed before", "killed later", "others killed", "paused, but not for long"],
)
def test_a_repetition_without_a_cause_is_a_violation(evidence: Evidence) -> None:
    verdict = judge(SETTINGS, evidence)
    assert "every repetition has a cause" in {violation.promise for violation in verdict.violations}
    assert verdict.causes["unknown"] == 1


def test_processes_that_end_in_order_repeat_nothing_whatever_the_cause() -> None:
    strikes = [Strike("TERM", "w1", 2, WALL + 2, 3)]
    evidence = executed(ran(1, 2.5, how="cancelled"), ran(5, 6, "w2"), strikes=strikes)
    assert promises(evidence, replace(SETTINGS, signal="TERM")) == {"no repetition"}


def test_a_durable_retry_is_no_repetition() -> None:
    retried = [ran(1, 2, how="error"), replace(ran(4, 5, "w2", attempt=2), nonce="another")]
    assert not judge(SETTINGS, executed(*retried)).repetitions


def test_a_message_that_is_sent_again_for_a_running_visit_is_a_violation() -> None:
    sent = [Echo(4.0, "a", "nonce")]
    assert promises(replace(executed(ran(1, 6)), resends=sent)) == {"nothing is sent again while it is worked on"}
    assert not promises(replace(executed(ran(3.9, 6)), resends=sent)), "it was asked before it began"
    assert not promises(replace(executed(ran(1, None), strikes=[killed(1.5)]), resends=sent))


def _visits(resend: int) -> Evidence:
    firsts = [replace(ran(1, None), node=f"n{i}") for i in range(4)]
    again = [replace(ran(5, 6, "w2"), node=f"n{i}", resend=resend) for i in range(4)]
    return executed(ran(0.5, 0.9), *firsts, *again, strikes=[killed(2)])


def test_messages_that_were_gone_with_their_worker_are_a_violation() -> None:
    assert not promises(_visits(0))
    assert promises(_visits(1)) == {"acked after the commit"}


def test_in_flight_counts_what_was_going_on_and_what_was_not_committed() -> None:
    at_work = replace(ran(1.5, None), node="b")
    committed = replace(ran(0.1, 0.2), node="c")
    evidence = executed(ran(1, 1.9), at_work, committed, strikes=[killed(2)])
    events = [*history("run:started"), Event("run", 2, "node:completed", WALL + 0.3, "c", 1, 1, {"by": "c"})]
    assert judge(SETTINGS, replace(evidence, stories={"run": Story("run", "running", events)})).in_flight == [(1, 1)]
