"""The invariants, each a function of its name: what must hold of a simulation that has ended."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from flowcraft.model import TERMINAL

from ..oracle.behaviour import without_errors
from ..oracle.views import NotReady
from ..property.replaying import assert_same_result
from .accounting import LostTimeline
from .causes import count_causes

if TYPE_CHECKING:
    from .simulation import Simulation

__all__ = ["CHECKS"]

Check = Callable[["Simulation"], None]
_OUTCOMES = frozenset({"node:completed", "node:failed", "node:undone", "item:completed", "item:failed"})


def something_happened(simulation: Simulation) -> None:
    """A seed that did nothing proves nothing."""
    assert simulation.store.runs, "no run was started"
    assert simulation.store.commits > len(simulation.store.runs), "nothing was committed after the starts"


def every_run_ends(simulation: Simulation) -> None:
    """I1: every accepted run, and every run of a subflow, is terminal, and those who wait for it have heard."""
    open_ones = {run_id: run.status for run_id, run in simulation.store.runs.items() if run.status not in TERMINAL}
    assert not open_ones, f"{open_ones} have not ended"
    for person in simulation.persons:
        run_id = person.task.run_id
        assert run_id in simulation.store.runs, f"{run_id} was accepted, and is not there"
        assert person.result is not None, f"nobody was told of the end of {run_id}"


def each_visit_completes_once(simulation: Simulation) -> None:
    """I2: of each visit one outcome is committed at most."""
    for run_id, account in simulation.accounts.items():
        undo = account.oracle.facts.undo.values()
        ended: Counter[tuple[object, ...]] = Counter()
        for event in account.events():
            data = event.data
            own = event.type in _OUTCOMES and event.visit > 0 and data.get("by") not in undo
            if own and not str(data.get("error", "")).startswith("ConditionError"):
                ended[event.node, data.get("by"), event.visit, data.get("item")] += 1
        twice = [key for key, count in ended.items() if count > 1]
        assert not twice, f"run {run_id}: {twice} ended more than once"


def the_oracle_permits_it(simulation: Simulation) -> None:
    """I3, I4, I6, I7, I9, I11: all that was committed, told commit by commit, is what the rules allow; after each the
    stored head stands as the oracle does; the history rebuilds the head; and what people were answered was true."""
    for run_id, account in simulation.accounts.items():
        try:
            account.tell()
        except (LostTimeline, NotReady) as error:
            # What a run's resuming sent out was executed, and the resuming was taken back: its outcome counts.
            if not simulation.store.failovers or (isinstance(error, NotReady) and not account.oracle.paused):
                raise
            simulation.excused.add(run_id)
            simulation.counts["left out: a subflow of before a failover"] += 1
            continue
        if not simulation.store.failovers:
            account.finish()
        simulation.counts += account.told.seen


def clients_get_the_result(simulation: Simulation) -> None:
    """I7: the result that a client gets is the one that the rules come to."""
    for person in simulation.persons:
        if person.task.run_id in simulation.excused:
            continue
        if (
            person.ends != simulation.store.ended[person.task.run_id]
        ):  # opened again by somebody else, and not asked for
            simulation.counts["left out: a result of before it was opened again"] += 1
            continue
        oracle = simulation.accounts[person.task.run_id].oracle
        assert person.result is not None
        assert_same_result(person.result, oracle)
        assert without_errors(dict(person.result.context)) == without_errors(oracle.context), "the context"


def children_end_first(simulation: Simulation) -> None:
    """I4: a run ends after the runs that it waited for."""
    if simulation.store.failovers:
        return  # the numbers of commits that were lost and made again say nothing
    for run_id, run in simulation.store.runs.items():
        for event in simulation.accounts[run_id].events():
            child = simulation.store.runs.get(str(event.data.get("child")))
            if event.type == "node:waiting" and child is not None and child.numbers:
                assert child.numbers[-1] < run.numbers[-1], f"{run_id} ended before {event.data['child']}"


def nothing_is_executed_twice_without_a_cause(simulation: Simulation) -> None:
    """I8: every repeated execution is explained by something that went wrong."""
    undoing = [
        (run_id, helper)
        for run_id, account in simulation.accounts.items()
        for helper in account.oracle.facts.undo.values()
    ]
    counts, unexplained = count_causes(simulation, undoing)
    simulation.counts.update({f"again: {cause}": count for cause, count in counts.items()})
    assert not unexplained, "; ".join(unexplained)


def nothing_is_left(simulation: Simulation) -> None:
    """I10: no message, no lease, no slot, nothing that is due."""
    store, coordination = simulation.store, simulation.coordination
    messages = simulation.queue.messages()
    assert not messages, f"{len(messages)} messages are left: {messages[:3]}"
    assert not coordination.leases(), f"leases are left: {coordination.leases()}"
    assert not coordination.slots(), f"slots are left: {coordination.slots()}"
    assert not store.due_runs(), f"runs that have ended are due: {store.due_runs()}"


def nobody_let_an_error_escape(simulation: Simulation) -> None:
    """No task died of something that nobody caught."""
    told = [f"{context.get('message')}: {context.get('exception')!r}" for context in simulation.loop.uncaught]
    assert not told, "; ".join(told)


#: In the order in which they are looked at; the names of what does not hold.
CHECKS: Mapping[str, Check] = {
    "something happened": something_happened,
    "I1 every run ends": every_run_ends,
    "I2 each visit completes once": each_visit_completes_once,
    "I7 the oracle permits it": the_oracle_permits_it,
    "I7 clients get the result": clients_get_the_result,
    "I4 children end first": children_end_first,
    "I8 nothing is executed twice without a cause": nothing_is_executed_twice_without_a_cause,
    "I10 nothing is left": nothing_is_left,
    "no error escapes": nobody_let_an_error_escape,
}
