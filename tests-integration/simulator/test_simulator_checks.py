"""Every check of the simulator finds what it is there for: a clean simulation is spoilt in one way each."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from flowcraft.model import TERMINAL, Change, Event, Index, Job

from . import run
from .checks import CHECKS
from .loop import NothingLeft, SimLoop
from .processes import Effect
from .run import check_seeds
from .simulation import Outcome, Simulation

#: Without faults, with several runs.
_SEED = 20


@pytest.fixture
def simulation() -> Simulation:
    made = Simulation(_SEED)
    assert made.run().violations == []
    return made


def _broken(simulation: Simulation) -> set[str]:
    """The names of the checks that do not hold."""
    found: set[str] = set()
    for name, check in CHECKS.items():
        try:
            check(simulation)
        except AssertionError:
            found.add(name)
    return found


def _leave_a_message(simulation: Simulation) -> None:
    simulation.queue.messages = lambda: [("q", 0, b"?")]  # type: ignore[method-assign] # one simulation's own


def _leave_a_lease(simulation: Simulation) -> None:
    simulation.coordination.leases = lambda: ["r0"]  # type: ignore[method-assign] # likewise


def _leave_a_slot(simulation: Simulation) -> None:
    simulation.coordination.slots = lambda: ["limit"]  # type: ignore[method-assign] # likewise


def _leave_a_due_run(simulation: Simulation) -> None:
    document = simulation.store.document("r0")
    document.index = Index(document.index.status, 1.0, document.index.updated_at)


def _open_a_run(simulation: Simulation) -> None:
    written = simulation.store.runs["r0"]
    written.commits[-1] = replace(written.commits[-1], index=Index("running", None, 0.0))


def _lose_a_result(simulation: Simulation) -> None:
    simulation.persons[0].result = None


def _execute_twice(simulation: Simulation) -> None:
    effect = next(effect for effect in simulation.effects if effect.run_id == "r0")
    simulation.effects.append(replace(effect, process="w0"))


def _complete_twice(simulation: Simulation) -> None:
    written = simulation.store.runs["r0"]
    number = next(
        n
        for n, change in enumerate(written.commits)
        if any(e.type == "node:completed" and e.visit for e in change.events)
    )
    change = written.commits[number]
    event = next(event for event in change.events if event.type == "node:completed" and event.visit)
    written.commits[number] = replace(change, events=(event, *change.events))


def _tell_another_result(simulation: Simulation) -> None:
    result = simulation.persons[0].result
    assert result is not None
    other = "failed" if result.status == "completed" else "completed"
    simulation.persons[0].result = replace(result, status=other)


def _do_nothing(simulation: Simulation) -> None:
    simulation.store.runs.clear()
    simulation.persons.clear()


def _let_an_error_escape(simulation: Simulation) -> None:
    simulation.loop.uncaught.append({"message": "Task exception was never retrieved"})


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (_leave_a_message, "I10 nothing is left"),
        (_leave_a_lease, "I10 nothing is left"),
        (_leave_a_slot, "I10 nothing is left"),
        (_leave_a_due_run, "I10 nothing is left"),
        (_open_a_run, "I1 every run ends"),
        (_lose_a_result, "I1 every run ends"),
        (_execute_twice, "I8 nothing is executed twice without a cause"),
        (_complete_twice, "I2 each visit completes once"),
        (_tell_another_result, "I7 clients get the result"),
        (_do_nothing, "something happened"),
        (_let_an_error_escape, "no error escapes"),
    ],
)
def test_a_check_finds_what_it_is_for(simulation: Simulation, spoil: Callable[[Simulation], None], name: str) -> None:
    assert _broken(simulation) == set(), "the simulation is clean"
    spoil(simulation)
    assert name in _broken(simulation)


def test_what_the_oracle_does_not_permit_is_found() -> None:
    spoilt = Simulation(_SEED)

    def other(change: Change) -> Change:
        done = [event for event in change.events if event.type == "node:completed"]
        return (
            replace(change, events=tuple(e for e in change.events if e not in done))
            if len(change.events) > 1
            else change
        )

    apply = spoilt._check

    def check() -> None:
        for written in spoilt.store.runs.values():
            written.commits[:] = [other(change) for change in written.commits]
        apply()

    spoilt._check = check  # type: ignore[method-assign] # one simulation's own
    assert any("I" in violation for violation in spoilt.run().violations)


# ---- the witness


def _events(*kinds: str, first: int) -> tuple[Event, ...]:
    events = [Event("r0", first + n, kind, 0.0) for n, kind in enumerate(kinds)]
    return (*events[:-1], events[-1].with_head(b"W"))


@pytest.mark.parametrize(
    ("status", "kinds", "gap", "name"),
    [
        ("running", ["node:completed"], 0, "I5 a terminal status never changes"),
        ("failed", ["run:failed"], 0, "I5 a terminal status never changes"),
        ("running", ["run:restarted"], 1, "I6 one event, one number"),
        ("running", ["run:restarted"], -1, "I6 one event, one number"),
    ],
)
def test_the_witness_looks_at_every_commit(
    simulation: Simulation, status: str, kinds: list[str], gap: int, name: str
) -> None:
    store = simulation.store
    assert store.status["r0"] in TERMINAL
    store._took("r0", "token", status, _events(*kinds, first=store.last["r0"] + 1 + gap), store.status["r0"])
    assert [violation.name for violation in store.violations] == [name]


def test_a_commit_without_its_head_is_found(simulation: Simulation) -> None:
    store = simulation.store
    store._took("r0", "token", "running", [Event("r0", store.last["r0"] + 1, "run:restarted", 0.0)], "failed")
    assert [violation.name for violation in store.violations] == ["I6 each commit carries its head"]


def test_a_run_that_is_looked_at_too_late_is_found(simulation: Simulation) -> None:
    store = simulation.store
    written = store.runs["r0"]
    sleeping = next(change for change in written.commits if change.index.wake_at is not None)
    written.commits[:] = [sleeping]
    store.looked_at_in_time("r0", sleeping.index.wake_at)
    assert store.violations == []
    assert sleeping.index.wake_at is not None
    store.looked_at_in_time("r0", sleeping.index.wake_at + 1.0)
    store.looked_at_in_time("r0", None)
    assert [violation.name for violation in store.violations] == ["I1 looked at in time"] * 2


def test_a_message_before_its_commit_is_found(simulation: Simulation) -> None:
    simulation.store.sent(Job("r0", "a", 1, 1, "a nonce of nobody"))
    assert [violation.name for violation in simulation.store.violations] == ["I4 sent after the commit"]


# ---- causes


def test_each_cause_explains_only_its_own(simulation: Simulation) -> None:
    worker = next(process for name, process in simulation.processes.items() if name.startswith("w"))
    simulation.effects[:] = [Effect("r0", "a", 1, 1, -1, worker.name, at) for at in (1.0, 9.0)]

    def unexplained() -> bool:
        return "I8 nothing is executed twice without a cause" in _broken(simulation)

    worker.stopped_at = None
    assert unexplained()
    worker.link.dead, worker.link.died = True, 20.0
    assert unexplained(), "it died afterwards"
    worker.link.died = 5.0
    assert not unexplained()
    worker.link.dead = False
    simulation.flushes[:] = [10.0]
    assert unexplained(), "it was flushed afterwards"
    simulation.flushes[:] = [8.0]
    assert not unexplained()
    simulation.flushes.clear()
    simulation.pauses[:] = [("another", 0.0, 10.0)]
    assert unexplained(), "another one was paused"
    simulation.pauses[:] = [(worker.name, 0.0, 10.0)]
    assert not unexplained()


# ---- seeds, and the loop


def test_a_seed_that_comes_to_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = iter("ab")

    def differs(seed: int, **_: object) -> Outcome:
        made = Simulation(seed).run()
        made.digest = next(digests)
        return made

    monkeypatch.setattr(run, "simulate", differs)
    [failure] = check_seeds([0]).failures
    assert failure.violations == ["the same seed comes to the same: a, then b"]


def test_what_a_check_finds_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: Simulation) -> None:
        raise AssertionError("never")

    monkeypatch.setitem(CHECKS, "I7 clients get the result", never)  # type: ignore[arg-type] # it is a dict
    assert Simulation(_SEED).run().violations == ["I7 clients get the result: never"]


def test_time_moves_only_when_nothing_is_ready() -> None:
    loop = SimLoop(random.Random(1))
    seen: list[float] = []
    loop.call_later(5.0, lambda: (seen.append(loop.time()), loop.stop()))
    loop.call_soon(lambda: seen.append(loop.time()))
    loop.run_forever()
    loop.close()
    assert seen == [0.0, 5.0]


def test_what_is_ready_runs_in_an_order_of_the_seed() -> None:
    def order(seed: int) -> list[int]:
        loop, seen = SimLoop(random.Random(seed)), list[int]()
        for number in range(10):
            loop.call_soon(seen.append, number)
        loop.call_later(1.0, loop.stop)
        loop.run_forever()
        loop.close()
        return seen

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == list(range(10))


def test_a_world_in_which_everybody_waits_is_told() -> None:
    loop = SimLoop(random.Random(1))
    with pytest.raises(NothingLeft):
        loop.run_until_complete(loop.create_future())
    loop.close()
