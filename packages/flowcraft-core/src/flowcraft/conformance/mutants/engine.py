"""Engines that are broken: workers, committers, tickers and transitions that do one thing wrong.

Each is planted by putting another function into its place, in this process, for as long as the block lasts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from flowcraft.children import Children
from flowcraft.claims import Claims
from flowcraft.committer import Committer
from flowcraft.conformance.mutants.mutant import Mutant
from flowcraft.engine import outcomes, propagate, transition
from flowcraft.engine.draft import Draft
from flowcraft.engine.head import (
    DEAD,
    DRAINING,
    LIVE,
    MARK_FAILED,
    PENDING,
    READY,
    UNMARKED,
    Activation,
    Head,
)
from flowcraft.engine.slots import NODE_MASK, node_of
from flowcraft.errors import AdapterError, SignalConflict, TooLate, Unavailable
from flowcraft.model import Change, Committed
from flowcraft.signals import SignalRequest
from flowcraft.ticker import Ticker
from flowcraft.writing import Aftermath, Writer

__all__ = ["mutants"]

#: Takes what was there and gives what is there instead.
_Make = Callable[[Any], Any]


@contextmanager
def _instead(*places: tuple[Any, str, _Make]) -> Generator[None]:
    """Replace attributes of classes and modules for as long as the block lasts."""
    with ExitStack() as stack:
        for owner, name, make in places:
            old = owner.__dict__[name]
            stack.callback(setattr, owner, name, old)
            setattr(owner, name, make(old))
        yield


def _mutant(name: str, check: str, owner: Any, attribute: str, make: _Make, *more: tuple[Any, str, _Make]) -> Mutant:
    """What is wrong is told by the docstring of ``make``."""
    what = inspect.cleandoc(make.__doc__ or "")
    return Mutant(
        f"engine-{name}", what, f"system.{check}", planted=lambda: _instead((owner, attribute, make), *more)
    )  # fmt: skip


# ---- commits and messages


def _acks_first(submit: Any) -> Any:
    """A delivery is acked before the commit of what came of it."""

    async def broken(self: Committer, *args: Any, delivery: Any = None, **named: Any) -> Any:
        if delivery is not None:
            await delivery.ack()
        return await submit(self, *args, **named)

    return broken


def _sends_first(commit: Any) -> Any:
    """Jobs are published before the commit that makes their visits READY."""

    async def broken(self: Any, folds: Sequence[Any], aftermath: Any) -> None:
        early = [] if self._rules.bound else [job for planned in folds for job in planned.change.jobs]
        if early:
            first: Aftermath = self._aftermath()
            first.jobs += early
            await first.run()
        await commit(self, folds, aftermath)
        aftermath.jobs = [job for job in aftermath.jobs if job not in early]

    return broken


def _conflict_executes_again(_: Any) -> Any:
    """A commit that meets a conflict gives its visits back, to be executed again."""

    async def broken(self: Any, box: Any) -> None:
        box.state = None
        box.fail(Unavailable("there was a conflict"), everything=True)
        self._next(box)

    return broken


def _unknown_means_failed(_: Any) -> Any:
    """A commit whose answer was lost counts as not applied."""

    async def broken(_self: Writer, _change: Change) -> Any:
        return Unavailable("it did not work")

    return broken


def _unknown_means_done(_: Any) -> Any:
    """A commit whose answer was lost counts as applied."""

    async def broken(_self: Writer, change: Change) -> Any:
        return Committed(True, change.token)

    return broken


# ---- leases and messages


def _without_leases(_: Any) -> Any:
    """Nobody asks who holds a lease before it executes."""

    async def broken(_self: Claims, keys: Sequence[str]) -> Sequence[bool]:
        return [True] * len(keys)

    return broken


def _lease_authorises(_: Any) -> Any:
    """Nothing is executed without a lease, also while coordination does not answer."""

    async def broken(self: Any, keys: Sequence[str]) -> Sequence[bool]:
        try:
            claimed: Sequence[bool] = await self._coordination.claim(keys, self.owner, self.ttl)
        except AdapterError:
            return [False] * len(keys)
        return claimed

    return broken


def _poison_for_ever(poisoned: Any) -> Any:
    """A node that kills its workers is executed for ever."""

    async def broken(self: Claims, key: str, most: int) -> str | None:
        await poisoned(self, key, most)
        return None

    return broken


# ---- the ticker


def _never_resends(_: Any) -> Any:
    """The ticker believes that every message is still waiting, and sends none again."""

    def broken(*_: Any) -> bool:
        return True

    return broken


def _never_wakes(_: Any) -> Any:
    """The ticker finds no timer due."""

    def broken(*_: Any) -> bool:
        return False

    return broken


# ---- the transition


def _no_fence(_: Any) -> Any:
    """An outcome counts for whatever visit of its node is active."""

    def broken(head: Head, visit: Any) -> bool:
        return visit.node in head.active and head.state(visit.node) in (READY, DRAINING)

    return broken


def _failed_is_dead(send: Any) -> Any:
    """A failed node marks its edges DEAD, as if they had not been taken."""

    def broken(self: Draft, node: int, mark: int) -> None:
        send(self, node, DEAD if mark == MARK_FAILED else mark)

    return broken


def _exit_dies_early(_: Any) -> Any:
    """The edges out of a cycle are marked with its first visit that does not take them."""

    def broken(self: Draft, node: int, mark: int) -> None:
        for edge in self.graph.out[node]:
            if self.head.marks[edge] == UNMARKED:
                self.mark(edge, mark)

    return broken


def _join_fires_early(complete: Any) -> Any:
    """A join over all of its predecessors fires with the first of them."""

    def broken(draft: Draft, node: int, *rest: Any) -> None:
        complete(draft, node, *rest)
        for edge in draft.graph.out[node]:
            if draft.head.states[draft.graph.dst[edge]] == PENDING:
                draft.activate(draft.graph.dst[edge])

    return broken


def _join_counts(resolve: Any) -> Any:
    """A join counts predecessors that completed, and waits until there are as many as it has edges."""

    def broken(draft: Draft, node: int) -> None:
        low, high = draft.graph.in_lo[node], draft.graph.in_mid[node]
        if draft.graph.at_least[node] or draft.head.marks[low:high].count(LIVE) == high - low:
            resolve(draft, node)

    return broken


def _losers_run_on(_: Any) -> Any:
    """What a join makes superfluous goes on."""

    def broken(draft: Draft) -> None:
        draft.fired = []

    return broken


def _item_ends_another(completed: Any) -> Any:
    """The outcome of an item completes another one, too."""

    def broken(draft: Draft, slot: int, *rest: Any) -> None:
        completed(draft, slot, *rest)
        others = [other for other in draft.head.active if other > NODE_MASK and node_of(other) == node_of(slot)]
        for other in others[:1]:
            completed(draft, other, *rest)

    return broken


def _retry_keeps_activation(try_again: Any) -> Any:
    """The next attempt has the activation of the one that failed."""

    def broken(draft: Draft, node: int, old: Activation, _attempts: int, *rest: Any) -> None:
        try_again(draft, node, old, old.attempt - 1, *rest)

    return broken


def _writes_lost(_: Any) -> Any:
    """What a node wrote into the run's context is not committed."""

    def broken(*_: Any) -> None:
        return None

    return broken


# ---- people


def _signal_twice(event: Any) -> Any:
    """Every signal for a wait is told that it was accepted."""

    def broken(self: SignalRequest, *args: Any) -> Any:
        try:
            return event(self, *args)
        except (SignalConflict, TooLate):
            return "accepted", []

    return broken


def _children_go_on(_: Any) -> Any:
    """Cancelling a run leaves the runs of its subflows alone."""

    def broken(*_: Any) -> None:
        return None

    return broken


def _looks_away(look_after: Any) -> Any:
    async def broken(self: Children, state: Any, slots: Any) -> None:
        waiting = [slot for slot in slots if state.committed().state(slot) != DRAINING]
        await look_after(self, state, waiting)

    return broken


mutants: Final[tuple[Mutant, ...]] = (
    _mutant("acks-first", "ports.ack-after-commit", Committer, "submit", _acks_first),
    _mutant("sends-first", "ports.send-after-commit", Committer, "_commit", _sends_first),
    _mutant("conflict-executes-again", "ports.conflicts", Committer, "_again", _conflict_executes_again),
    _mutant("unknown-means-failed", "chain.unanswered", Writer, "_find_out", _unknown_means_failed),
    _mutant("unknown-means-done", "fan.unanswered", Writer, "_find_out", _unknown_means_done),
    _mutant("without-leases", "long-node.doubled-and-lost", Claims, "take", _without_leases),
    _mutant("lease-authorises", "ports.coordination-down", Claims, "take", _lease_authorises),
    _mutant("poison-for-ever", "process.poison", Claims, "poisoned", _poison_for_ever),
    _mutant("never-resends", "conditions.doubled-and-lost", Ticker, "_congested", _never_resends),
    _mutant("never-wakes", "sleep.killed", Ticker, "_timer_due", _never_wakes),
    _mutant("no-fence", "process.late-outcome", transition, "_current", _no_fence),
    _mutant("failed-is-dead", "failure.killed", Draft, "send", _failed_is_dead),
    _mutant("exit-dies-early", "loop.killed", Draft, "send", _exit_dies_early),
    _mutant("join-fires-early", "fan.killed", outcomes, "_complete_simply", _join_fires_early),
    _mutant("join-counts", "conditions.killed", propagate, "resolve", _join_counts),
    _mutant("losers-run-on", "any-join.killed", propagate, "give_up_losers", _losers_run_on),
    _mutant("item-ends-another", "batch.killed", transition, "item_completed", _item_ends_another),
    _mutant("retry-keeps-activation", "retry.killed", outcomes, "try_again", _retry_keeps_activation),
    _mutant("writes-lost", "context.killed", transition, "_write_context", _writes_lost),
    _mutant("signal-twice", "wait.killed", SignalRequest, "event", _signal_twice),
    _mutant(
        "children-go-on", "cancel.killed", Children, "_unneeded", _children_go_on,
        (Children, "look_after", _looks_away),
    ),
)  # fmt: skip
