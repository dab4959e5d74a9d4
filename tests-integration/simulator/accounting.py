"""What was written, told to the oracles commit by commit, in a world whose clocks differ and whose stores fail over."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

from flowcraft.history import rebuild
from flowcraft.model import Change, Event
from flowcraft.runstate import slot_of, unpack_head

from ..oracle.behaviour import Result, without_errors
from ..oracle.oracle import Oracle
from ..oracle.views import Slot
from ..property.accounts import Account
from ..property.executions import Executions

if TYPE_CHECKING:
    from .simulation import Simulation

__all__ = ["LostTimeline", "SimAccount", "SimExecutions", "accounts_of"]


class LostTimeline(Exception):
    """A visit found a run of its subflow that was made for it before a failover took the visit itself back, or the
    visit said that it had made one, or heard of the end of one, which the failover had taken back.

    That run's id is the same, since it is made of the parent's id, node, visit and attempt. It may have got another
    input, and may have been cancelled, so what the parent comes to is not what the rules say. Nothing can be told then.
    """


class SimExecutions(Executions):
    """Of several executions of one attempt, the one counts that got what the visit was to get: which of them was
    committed is not told. Zombies that come too late may have got something else after a failover, but only then.
    """

    strict = True

    def outcome(self, oracle: Oracle, slot: Slot, event: Event) -> tuple[object, Result, int]:
        """What a visit got and came to, and at which attempt."""
        activation = oracle.active[slot.key]
        if slot.item >= 0 and oracle.facts.batches[slot.node].per_job > 1:
            return super().outcome(oracle, slot, event)  # of several items
        wanted = without_errors(activation.input)
        for done in self.done[slot.runs, slot.visit, slot.item].values():
            if len(done) > 1:
                done.sort(key=lambda execution: without_errors(execution.given) == wanted)
                first = done[0]
                right = not self.strict or activation.undoes or without_errors(first.given) == wanted
                assert right, f"{first.process} executed {slot} with {first.given}, not {wanted}"
        return super().outcome(oracle, slot, event)


class SimAccount(Account):
    """One run of a simulation."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.told.patience = math.inf  # while things go wrong a timer may be as late as it likes

    def tell(self) -> Oracle:
        """Tell the whole run, once, and rebuild its head from its history."""
        if self._done:
            return self.oracle
        oracle = super().tell()
        self._check_history()
        return oracle

    @property
    def strict(self) -> bool:
        """Whether nothing of what was committed was lost."""
        return cast("SimExecutions", self.told.executions).strict

    def child(self, name: str, oracle: Oracle, slot: Slot) -> None:
        """It must be made of what the visit got, after the visit began."""
        child = self._account_of(name)
        if child is None and not self.strict:
            raise LostTimeline(f"{name} was made before a failover, and {slot} began to wait for it afterwards")
        if child is not None and child.written.number < self._began(slot):
            raise LostTimeline(f"{name} was made before {slot} of {self.written.made.run_id} was to run")
        super().child(name, oracle, slot)

    def ended(self, name: str) -> Oracle:
        """Before the visit that waited for it; else that heard of an end which a failover took back."""
        child = self._account_of(name)
        if not self.strict and child is not None and child.written.numbers[-1:] > [self._number]:
            raise LostTimeline(f"{name} ended after it was told of")
        return super().ended(name)

    @property
    def _number(self) -> int:
        """The number of the commit that is told now, as stores count them."""
        heads = [change.head for change in self.written.commits]
        return self.written.numbers[heads.index(self._document)]

    def _began(self, slot: Slot) -> int:
        """The number of the commit that made the visit ready, as stores count them."""
        run = self.written
        heads = [run.made.head, *(change.head for change in run.commits)]
        at = heads.index(self._document)
        before = unpack_head(heads[at - 1])[1]
        number = slot_of(self.graph, slot.node, slot.item)
        nonce = before.active[number].nonce if number in before.active else ""
        tokens = [change.token for change in run.commits]
        return run.numbers[tokens.index(nonce)] if nonce in tokens else run.number

    def _commit(self, change: Change) -> None:
        self._document = change.head
        self.oracle.now = change.index.updated_at  # as the process that made it took the time to be
        super()._commit(change)

    def _check_history(self) -> None:
        """What was committed is what the history says, and the history rebuilds the last head."""
        events = [*self.written.made.events, *(event for change in self.written.commits for event in change.events)]
        assert [event.seq for event in events] == list(range(1, len(events) + 1)), "the numbers have gaps"
        records: list[bytes] = []
        for event in events:
            if event.head:
                records = [event.head] if event.head[:1] == b"W" else [*records, event.head]
        last = self.written.commits[-1] if self.written.commits else self.written.made
        assert rebuild(records) == last.head, "the history does not rebuild the head"

    def events(self) -> list[Event]:
        """All of the run's."""
        return [*self.written.made.events, *(event for change in self.written.commits for event in change.events)]


def accounts_of(simulation: Simulation) -> dict[str, SimAccount]:
    """Those of all runs, none of which has been told."""
    accounts: dict[str, SimAccount] = {}

    def account_of(run_id: str) -> SimAccount | None:
        written = simulation.store.runs.get(run_id)
        if written is not None and run_id not in accounts:
            graph = simulation.graph(written.made.blueprint_hash)
            said = simulation.crowd.said[run_id]
            simulation.executions[run_id].strict = not simulation.store.failovers
            accounts[run_id] = SimAccount(written, graph, simulation.executions[run_id], said, account_of)
        return accounts.get(run_id)

    for run_id in simulation.store.runs:
        account_of(run_id)
    return accounts
