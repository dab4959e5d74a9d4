"""A distributed run, told to the oracle commit by commit; after each, the stored head and the oracle stand alike."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flowcraft.codec import JsonCodec
from flowcraft.engine.head import DRAINING, PARKED, READY, RETRYING, WAITING, Head
from flowcraft.engine.slots import item_of, node_of
from flowcraft.graph import Graph
from flowcraft.model import RUN_INPUT, Change, Event
from flowcraft.runstate import unpack_head

from ..oracle.behaviour import behaviour_of, without_errors
from ..oracle.oracle import Oracle
from ..oracle.views import Slot
from .executions import Executions
from .ledger import Written
from .people import Asked, Said
from .retelling import Retelling, Sent, reads_late

__all__ = ["Account"]

_CODEC = JsonCodec()
#: A ticker looks every second and a half at the latest; time moves by half a second, and a commit takes a moment.
_PATIENCE = 4.0


class Account:
    """One run. ``account_of`` gives those of its subflows."""

    def __init__(
        self, written: Written, graph: Graph, executions: Executions, said: Said,
        account_of: Callable[[str], Account | None],
    ) -> None:  # fmt: skip
        made = written.made
        self.written = written
        self.graph = graph
        self.said = said
        self.head = unpack_head(made.head)[1]
        self.run_input = _CODEC.decode(made.values[RUN_INPUT])
        context = {key.name: _CODEC.decode(cell) for key, cell in made.values.items() if key.space == "context"}
        behaviour = behaviour_of(graph.blueprint)
        at = self.head.started_at
        self.oracle = Oracle(graph.blueprint, behaviour, self.run_input, now=at, context=context)
        self.told = Retelling(self.oracle, executions, self, patience=_PATIENCE)
        self._account_of = account_of
        self._due: Mapping[str, float] = {}
        self._taken: set[str] = set()
        self._done = False

    # ---- what the events do not tell

    def signal(self, node: str, visit: int) -> Sent | None:
        """By the ids that the head keeps."""
        found = [name for ended, name in self.head.answered.get(self.graph.index[node], ()) if ended == visit]
        return self._sent(found[-1]) if found else None

    def kept(self, node: str, visit: int) -> Sent:
        """Likewise; it may have been used in the same commit."""
        stored = self.head.mailbox.get((self.graph.index[node], visit))
        sent = self._sent(stored[0]) if stored is not None else self.signal(node, visit)
        assert sent is not None, f"a signal for {node}#{visit} was kept, but is not there"
        return sent

    def _sent(self, name: str) -> Sent:
        assert name in self.said.taken, f"{name} was not answered with yes"
        self._taken.add(name)
        return self.said.signals[name][2]

    def command(self, kind: str) -> object:
        """The next one that was accepted."""
        assert self.said.commands[kind], f"nobody told the run to {kind}"
        return self.said.commands[kind].pop(0)

    def child(self, name: str, oracle: Oracle, slot: Slot) -> None:
        """It must be made of what the visit got."""
        child = self._account_of(name)
        assert child is not None, f"the run of {slot} was never made"
        parent = (self.written.made.run_id, slot.node, slot.item)
        assert child.head.parent == parent, f"{name} belongs to {child.head.parent}"
        activation = oracle.active[slot.key]
        if not reads_late(oracle, activation.chain):
            assert without_errors(child.run_input) == without_errors(activation.input), f"the input of {slot}"
        wanted = oracle.facts.nodes[slot.runs].params["blueprintId"]
        assert child.graph.blueprint.id == wanted, f"{slot} runs {wanted}"

    def ended(self, name: str) -> Oracle:
        """It must have ended before."""
        child = self._account_of(name)
        assert child is not None
        return child.tell()

    # ---- telling

    def tell(self) -> Oracle:
        """Tell the whole run, once."""
        if self._done:
            return self.oracle
        self._done = True
        for event in self.written.made.events:
            self.told.take(event)
        self._settle_accounts(0)
        for number, change in enumerate(self.written.commits, 1):
            try:
                self._commit(change)
                self._settle_accounts(number)
            except AssertionError as error:
                error.add_note(self.text(number))
                raise
        return self.oracle

    def text(self, until: int | None = None) -> str:
        """All that is needed to see what went wrong."""
        commits = self.written.commits[:until]
        lines = [f"  {change.index.updated_at} " + ", ".join(map(_text, change.events)) for change in commits[-40:]]
        first = ", ".join(map(_text, self.written.made.events))
        return "\n".join([f"{self.written.made.run_id}, {len(commits)} commits: {first}", *lines])

    def finish(self) -> None:
        """All that was asked is answered, and the answers were true."""
        said = self.said
        assert not self.oracle.active, f"{self.oracle.ready()} must run"
        assert self._taken == said.taken, f"{said.taken ^ self._taken} are told of on one side only"
        assert not any(said.commands.values()), f"accepted, but not in the history: {said.commands}"
        events = [event.type for change in self.written.commits for event in change.events]
        for kind, count in said.changes.items():
            assert events.count(kind) >= count if kind == "run:cancelling" else events.count(kind) == count, kind
        assert not said.asked, f"not true: {[(asked.what, asked.first, asked.last) for asked in said.asked]}"

    def _commit(self, change: Change) -> None:
        oracle = self.oracle
        self.head = unpack_head(change.head)[1]
        oracle.now = max(oracle.now, change.index.updated_at)
        first = True
        for event in change.events:
            self._come_back()
            oracle.folding = not first
            self.told.take(event)
            first = first and event.type == "node:marked"
        oracle.folding = False
        self._follow()
        self._compare(change)

    def _come_back(self) -> None:
        """Items that left a full window, and whose time has come, are the next to enter it."""
        oracle = self.oracle
        for key in sorted(oracle.resting, key=lambda key: (self._due.get(key, 0.0), key)):
            activation = oracle.active[key]
            node, due = activation.chain[0], self._due.get(key)
            if (
                activation.item < 0
                or due is None
                or due > oracle.now
                or activation.item not in oracle.batches[node].left
            ):
                continue
            inside = len([k for k, a in oracle.active.items() if a.item >= 0 and a.chain[0] == node])
            if inside - len(oracle.batches[node].left) >= oracle.facts.batches[node].window:
                oracle.wake(key, same_commit=True)

    def _follow(self) -> None:
        """What happens without an event: timers of retries, visits that are looked at again, runs nobody needs."""
        head, oracle = self.head, self.oracle
        for slot, activation in head.active.items():
            key = self._key(slot)
            if head.state(slot) == READY and key in oracle.resting:
                oracle.wake(key)
            if head.state(slot) == DRAINING and activation.reason and key not in oracle.children:
                oracle.child_started(oracle.active[key].slot)
                self.told.children[key] = activation.reason
        self._due = {self._key(s): a.due for s, a in head.active.items() if head.state(s) == RETRYING}

    def _settle_accounts(self, number: int) -> None:
        """Which answers were true at this commit."""

        def is_true(asked: Asked) -> bool:
            return asked.first <= number <= asked.last and asked.true(self.oracle.clone())

        true = [asked for asked in self.said.asked if is_true(asked)]
        self.told.seen["answers that were true"] += len(true)
        self.said.asked = [asked for asked in self.said.asked if asked not in true]

    # ---- comparing

    def _key(self, slot: int) -> str:
        node, item = self.graph.ids[node_of(slot)], item_of(slot)
        return node if item < 0 else f"{node}[{item}]"

    def _slot(self, number: int) -> Slot:
        activation, ids = self.head.active[number], self.graph.ids
        node = node_of(number)
        runs = ids[node if activation.runs < 0 else activation.runs]
        return Slot(ids[node], runs, activation.visit, activation.attempt, item_of(number))

    def _compare(self, change: Change) -> None:
        head, oracle = self.head, self.oracle
        withheld = [oracle.active[key].slot for key in oracle.withheld if key not in oracle.resting]
        assert sorted(self._in(head, READY, DRAINING)) == sorted([*oracle.ready(), *withheld]), "ready"
        resting = [oracle.active[key].slot for key in oracle.resting]
        assert sorted(self._in(head, RETRYING, PARKED)) == sorted(resting), "put aside"
        waiting = {self._key(s): a.due or None for s, a in head.active.items() if self._waits(head, s)}
        assert waiting == oracle.waiting, f"waiting {waiting} {oracle.waiting}"
        children = [self._key(s) for s, a in head.active.items() if a.reason and head.state(s) in (WAITING, DRAINING)]
        assert sorted(children) == sorted(oracle.children), "with a child"
        assert head.terminal == (not oracle.active), "the end"
        assert change.index.status in (oracle.status(), "cancelling"), f"{change.index.status}, not {oracle.status()}"

    @staticmethod
    def _waits(head: Head, slot: int) -> bool:
        return head.state(slot) == WAITING and not head.active[slot].reason

    def _in(self, head: Head, *states: int) -> list[Slot]:
        found = [s for s, a in head.active.items() if head.state(s) in states]
        return [self._slot(s) for s in found if head.state(s) != DRAINING or not head.active[s].reason]


def _text(event: Event) -> str:
    data: Mapping[str, Any] = event.data
    told = {k: (v[:60] if isinstance(v, str) else v) for k, v in data.items() if k != "took" and v is not None}
    return f"{event.type} {event.node or ''}#{event.visit} {told or ''}"
