"""The checker sees each broken promise, and nothing else, in evidence made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from flowcraft.model import Event

from .checker import Evidence, judge
from .evidence import Clock, Echo, Execution, Outage, Story, Strike
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


def away(what: str, at: float, until: float, *processes: str, leases: Sequence[str] = ()) -> Outage:
    return Outage(what, at, WALL + at, until, processes, frozenset(leases))


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


LEASED = replace(ran(1, 4), lease="its"), replace(ran(3, 4.5, "w2"), lease="its")


@pytest.mark.parametrize(
    ("cause", "outage"),
    [
        ("its lease was removed while it was executed", away("wipe", 2, 2.1, leases=["its"])),
        ("its lease was removed when it was about to begin", away("wipe", 0.5, 0.6, leases=["its"])),
        ("the server was killed while it was executed", away("restart", 1.5, 2.5)),
        ("its connections stalled while it was executed", away("stall", 1.5, 2.5, "w1")),
        ("its connections were cut when it was about to begin", away("cut", 0.9, 0.9, "w1")),
        (
            "its connections were ended by the server when it was about to be executed again",
            away("kick", 2.9, 2.9, "w2"),
        ),
    ],
)
def test_what_was_done_to_the_backend_is_a_cause_for_those_whom_it_met(cause: str, outage: Outage) -> None:
    verdict = judge(SETTINGS, replace(executed(*LEASED), outages=[outage]))
    assert not verdict.violations
    assert [repetition.cause for repetition in verdict.repetitions] == [cause]


@pytest.mark.parametrize(
    "outage",
    [
        away("wipe", 2, 2.1, leases=["another"]),
        away("wipe", 3.1, 3.2, leases=["its"]),
        away("scripts", 2, 2.1),
        away("cut", 2, 2, "w3"),
        away("stall", 3.1, 9, "w1", "w2"),
        away("cut", -2, -2, "w1"),
        away("kick", 1.5, 1.5, "w2"),
    ],
    ids=[
        "another's lease",
        "later",
        "no scripts",
        "others cut",
        "stalled later",
        "cut long before",
        "had a lease again",
    ],
)
def test_what_was_done_to_others_or_at_another_time_is_no_cause(outage: Outage) -> None:
    assert "every repetition has a cause" in promises(replace(executed(*LEASED), outages=[outage]))


def test_a_lease_that_was_removed_long_ago_is_no_cause() -> None:
    first, again = replace(LEASED[0], end=9.0), replace(LEASED[1], begin=6.5, end=7.0)
    removed = away("wipe", 2, 2.1, leases=["its"])
    assert promises(replace(executed(first, again), outages=[removed])) == {"every repetition has a cause"}


def test_an_outage_may_come_between_a_commit_and_its_time() -> None:
    late = executed(ran(1, 1.4), ran(4, 4.2, "w2"), at=1.5)
    assert "nothing is executed after its commit" in promises(late)
    assert not promises(replace(late, outages=[away("restart", 1.6, 3.5)]))
    assert not promises(replace(late, outages=[away("stall", 1.6, 3.5, "w1")]))
    assert promises(replace(late, outages=[away("stall", 1.6, 3.5, "w3")]))
    assert promises(replace(late, outages=[away("restart", 0.1, 0.4)])), "it was over before"


def test_a_commit_is_not_before_its_execution_only_because_the_clock_is_not_known_better() -> None:
    early = executed(ran(1.5, 1.9), at=1.4)
    assert promises(early) == {"nothing is executed after its commit"}
    assert not promises(replace(early, clocks=[Clock("w1", WALL + 1, -0.2)]))
    assert promises(replace(early, clocks=[Clock("w1", WALL + 1, -0.05)]))
    assert promises(replace(early, clocks=[Clock("w1", WALL - 60, -0.2)])), "it was measured again since"


def test_whose_lease_was_removed_may_get_its_message_again() -> None:
    running = replace(ran(1, 6), lease="its")
    sent = replace(executed(running), resends=[Echo(4.0, "a", "nonce", "w2")])
    assert promises(sent) == {"nothing is sent again while it is worked on"}
    assert not promises(replace(sent, outages=[away("wipe", 3.9, 3.9, leases=["its"])]))
    assert promises(replace(sent, outages=[away("wipe", 3.9, 3.9, leases=["another"])]))
    assert not promises(replace(sent, outages=[away("stall", 1.5, 3.9, "w2")])), "it had asked before"
    assert promises(replace(sent, outages=[away("stall", 1.5, 3.9, "w3")]))


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
