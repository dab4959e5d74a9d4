"""A real run of any construct, told to the oracle event by event; what people and other runs did is `Outside`."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, cast

from flowcraft.constructs import SUBFLOW
from flowcraft.model import Event
from flowcraft.subflows import child_id

from ..oracle.behaviour import Err, Ok, without_errors
from ..oracle.facts import Activation
from ..oracle.oracle import Oracle
from ..oracle.views import Slot
from .executions import Executions

__all__ = ["Outside", "Retelling", "Sent", "key_of", "reads_late"]

#: Failures that nobody executed anything for: the rules alone make them.
_DECIDED = ("ConditionError", "VisitLimitReached", "BatchFailed")
#: What follows from something else, and is the oracle's own business.
_FOLLOWS = frozenset(
    {"run:started", "run:updated", "run:failing", "node:skipped", "scope:visit", "batch:started", "run:completed",
     "run:failed", "run:cancelled"}
)  # fmt: skip


class Sent(NamedTuple):
    """A signal as somebody sent it."""

    id: str
    payload: object
    action: str | None


class Outside(Protocol):
    """What happened to the run that its events do not tell."""

    def signal(self, node: str, visit: int) -> Sent | None:
        """The signal that ended this visit of a wait, or None: its time was over."""
        ...

    def kept(self, node: str, visit: int) -> Sent:
        """The signal that came early for this visit."""
        ...

    def command(self, kind: str) -> object:
        """The next ``patch``, ``mark``, ``retry`` or ``rollback`` that was accepted, in their order."""
        ...

    def child(self, name: str, oracle: Oracle, slot: Slot) -> None:
        """The visit made this run, or found it."""
        ...

    def ended(self, name: str) -> Oracle:
        """The oracle of a child that has ended."""
        ...


def key_of(event: Event) -> str:
    """What the event is about, in the oracle's words."""
    item = event.data.get("item")
    return f"{event.node}" if item is None else f"{event.node}[{item}]"


def reads_late(oracle: Oracle, chain: Sequence[str]) -> bool:
    """Whether one of these nodes reads its input by names: at some moment before it ends, and again for a fallback."""
    nodes = [oracle.facts.nodes[node] for node in chain]
    return any(node.inputs is not None or node.params.get("inputs") is not None for node in nodes)


class Retelling:
    """One run. Whatever the rules do not allow is an assertion that fails.

    ``patience``: how many seconds after its time a timer may fire.
    """

    def __init__(self, oracle: Oracle, executions: Executions, outside: Outside, *, patience: float = 0.0) -> None:
        self.patience = patience
        self.oracle = oracle
        self.executions = executions
        self.outside = outside
        #: The runs that subflows wait for, by the keys of their visits.
        self.children: dict[str, str] = {}
        #: When what is tried again is due.
        self.due: dict[str, float] = {}
        #: What visits read that began just now, where that is known: by their keys.
        self.expected: dict[str, object] = {}
        self.seen: Counter[str] = Counter()
        self._marked = ""
        self._stopped = False

    def take(self, event: Event) -> None:
        """One event; the caller says by ``oracle.folding`` whether it is the first of its commit."""
        self.oracle.now = max(self.oracle.now, event.at)
        if event.type in _FOLLOWS:
            self._follows(event)
        elif event.type.startswith("run:") or event.type == "context:patched":
            self._steered(event)
        elif event.type in ("node:completed", "node:failed", "node:fallback", "node:retrying", "node:undone") or (
            event.type in ("item:completed", "item:failed")
        ):
            self._outcome(event)
        else:
            self._other(event)

    # ---- the run

    def _follows(self, event: Event) -> None:
        if event.type in ("run:completed", "run:failed", "run:cancelled"):
            assert not self.oracle.active, f"{event.type}, but {sorted(self.oracle.active)} must go on"
            assert self.oracle.status() == event.type.partition(":")[2], f"not {event.type}: {self.oracle.status()}"
        elif event.type == "run:failing":
            assert self.oracle.ending == "failed", "stopped without need"

    def _steered(self, event: Event) -> None:
        oracle, outside = self.oracle, self.outside
        if event.type == "run:cancelling":
            oracle.cancel()
        elif event.type == "run:paused":
            assert oracle.pause(), "paused, but cannot be"
        elif event.type == "run:resumed":
            assert oracle.unpause(), "resumed, but was not paused"
        elif event.type == "context:patched":
            writes, deleted = cast("tuple[Mapping[str, object], Sequence[str]]", outside.command("patch"))
            assert sorted((*writes, *deleted)) == event.data["keys"], "another patch"
            assert oracle.patch(writes, deleted)
        elif event.type == "run:undoing":
            if "reason" in event.data or not self._stopped:
                assert oracle.rollback(cast("str | None", outside.command("rollback"))), "rolled back, but cannot be"
                self.seen["rolled back"] += 1
            self._stopped = "reason" in event.data
        elif event.type == "run:restarted" and oracle.epoch < cast("int", event.data["epoch"]):
            assert oracle.retry(cast("Sequence[str] | None", outside.command("retry"))), "retried, but cannot be"
            self.seen["retried"] += 1
        else:
            assert event.type == "run:restarted", f"{event} is not known here"
        if event.type == "run:restarted":
            assert oracle.epoch == event.data["epoch"], "the number of the epoch"

    def _other(self, event: Event) -> None:
        oracle, key, node = self.oracle, key_of(event), event.node or ""
        if event.type == "node:waiting":
            self._waits(event, key)
        elif event.type == "signal:kept":
            sent = self.outside.kept(node, event.visit)
            answer = oracle.signal(node, sent.payload, sent.action, signal_id=sent.id, visit=event.visit)
            assert answer == "kept", f"a signal for {node}#{event.visit} was kept, but is {answer}"
            self.seen["kept"] += 1
        elif event.type == "node:marked":
            self._marked = node
        elif event.type == "node:parked":
            oracle.rest(self._slot(event, key))
            self.seen["parked"] += 1
        elif event.type == "node:draining":
            assert oracle.active[key].draining, f"{key} is needed"
            self.seen["drained"] += 1
        elif event.data.get("reason") == "drained":
            assert event.type in ("node:cancelled", "item:cancelled"), f"{event}"
            self._dropped(event, key)
        else:
            assert event.type == "node:cancelled", f"{event} is not known here"
            assert oracle.state[node] == "cancelled" or oracle.facts.around[node], f"{node} is needed"

    def _dropped(self, event: Event, key: str) -> None:
        oracle = self.oracle
        assert key in oracle.active, f"{key} was dropped, but is over"
        assert oracle.active[key].visit == event.visit
        if key in oracle.children:
            oracle.child_ended(key, None)
        else:
            oracle.drop(oracle.active[key].slot)

    def _waits(self, event: Event, key: str) -> None:
        oracle = self.oracle
        if "child" in event.data:
            slot = self._slot(event, key)
            self.children[key] = name = str(event.data["child"])
            self.outside.child(name, oracle, slot)
            oracle.child_started(slot)
            self.seen["children"] += 1
        elif key in oracle.waiting:
            due = oracle.waiting[key]
            assert due == event.data["due"], f"{key} waits until {event.data['due']}, not {due}"
        else:
            over = oracle.state[key] in ("cancelled", "completed", "failed") or oracle.visits[key] >= event.visit
            assert over, f"{key} does not wait"

    # ---- outcomes

    def _slot(self, event: Event, key: str) -> Slot:
        assert key in self.oracle.active, f"{event} of what must not run"
        slot = self.oracle.active[key].slot
        assert slot.visit == event.visit, f"{slot} must run, {event} came"
        return slot

    def _outcome(self, event: Event) -> None:
        oracle, key = self.oracle, key_of(event)
        error = str(event.data.get("error", ""))
        activation = oracle.active.get(key)
        if self._marked:
            action = cast("str | None", event.data["action"])
            assert event.type == "node:completed"
            assert oracle.mark_completed(self._marked, self.outside.command("mark"), action), f"{key} was marked"
            self._marked = ""
            self.seen["marked"] += 1
        elif error.startswith(_DECIDED):
            self.seen[error.partition(":")[0]] += 1  # that it is listed is compared in the end
        elif activation is None or not self._is_of(event, activation):
            self._decided(event)
        elif key in oracle.children or self._child_came_and_ended(event, activation.slot):
            self._child_ended(event, key)
        elif key in oracle.waiting:
            self._waited(event, key, activation)
        else:
            self._executed(event, key, activation)

    def _is_of(self, event: Event, activation: Activation) -> bool:
        by = event.data.get("by", activation.chain[-1])
        return activation.visit == event.visit and activation.chain[-1] == by

    def _decided(self, event: Event) -> None:
        """Completed by the rules alone: a controller, a batch, a wait whose signal had come before."""
        node = str(event.data.get("by", event.node))
        assert event.type == "node:completed", f"{event} of what must not run"
        kind, oracle = self.oracle.facts.kind[node], self.oracle
        assert kind in ("controller", "items", "wait"), f"{event} of a {kind} that must not run"
        assert oracle.visits[node] >= event.visit, f"{event}, but it has had {oracle.visits[node]} visits"
        self.seen[f"{kind} decided"] += 1

    def _waited(self, event: Event, key: str, activation: Activation) -> None:
        oracle, node = self.oracle, activation.chain[-1]
        sent = self.outside.signal(node, event.visit) if oracle.facts.kind[node] == "wait" else None
        if sent is not None:
            assert event.type == "node:completed"
            answer = oracle.signal(node, sent.payload, sent.action, signal_id=sent.id, visit=event.visit)
            assert answer == "accepted", f"{sent} ended {key}, but is {answer}"
            assert event.data["action"] == sent.action
            self.seen["accepted"] += 1
            return
        until = oracle.waiting[key]
        assert until is not None, f"{key} waits for a signal, and ended without one"
        assert until <= event.at, f"{key} ended at {event.at}, but its time comes at {until}"
        assert event.at <= until + self.patience, f"{key} ended at {event.at}, but its time came at {until}"
        assert min(oracle.asleep().values()) >= until, f"the time of {key} came before that of others"
        oracle.time_is_up(key)
        self.seen["slept" if oracle.facts.kind[node] == "sleep" else "timed out"] += 1

    def _child_came_and_ended(self, event: Event, slot: Slot) -> bool:
        """Whether a draining visit heard of its child and of the child's end in this one commit: no event tells."""
        oracle = self.oracle
        if not oracle.active[slot.key].draining or oracle.facts.nodes[slot.runs].uses != SUBFLOW:
            return False
        fallback = "" if slot.runs == slot.node else slot.runs
        name = child_id(event.run_id, slot.node, slot.item, slot.visit, slot.attempt, fallback=fallback)
        self.children[slot.key] = name
        self.outside.child(name, oracle, slot)
        oracle.child_started(slot)
        return True

    def _child_ended(self, event: Event, key: str) -> None:
        oracle = self.oracle
        child = self.outside.ended(self.children.pop(key))
        assert not child.active, f"{key} has ended, but its child has not"
        status, result = child.status(), None
        writes: dict[str, object] = {}
        if status == "completed":
            assert event.type == "node:completed", f"the child of {key} completed: {event}"
            result = Ok(child.result().output)
            named = oracle.facts.nodes[oracle.active[key].chain[-1]].params.get("outputs") or {}
            for to, name in cast("Mapping[str, str]", named).items():
                if name in child.names:
                    writes[to] = child.names[name]
        else:
            assert event.type != "node:completed", f"the child of {key} {status}: {event}"
            result = Err("SubflowFailed") if status == "failed" else None
        oracle.child_ended(key, result, writes)
        self._after_failure(event, key, status == "completed")
        self.seen[f"child {status}"] += 1

    def _executed(self, event: Event, key: str, activation: Activation) -> None:
        oracle = self.oracle
        if key in oracle.resting:
            oracle.wake(key)
        slot = self._slot(event, key)
        given, result, last = self.executions.outcome(oracle, slot, event)
        slot = oracle.retried(slot, last)
        ok = event.type in ("node:completed", "item:completed", "node:undone")
        assert isinstance(result, Ok) == ok, f"{event} of {result}"
        if key in self.expected or slot.item >= 0 or not reads_late(oracle, activation.chain):
            wanted = self.expected.pop(key, activation.input)
            assert without_errors(given) == without_errors(wanted), f"{slot} got {given}, not {wanted}"
        oracle.settle(slot, result)
        self._after_failure(event, key, ok)
        self.seen[event.type if slot.item >= 0 or activation.undoes else "executed"] += 1

    def _after_failure(self, event: Event, key: str, ok: bool) -> None:
        """What is to be tried again, or handed to a fallback, is; what has failed for good is not."""
        again = self.oracle.active.get(key)
        if event.type == "node:retrying":
            assert again is not None, f"{key} is tried again, but must not be"
            assert again.attempt == event.attempt + 1, f"{again.slot} is next, not after {event}"
            self.due.pop(key, None)  # so that the latest is the last
            self.due[key] = cast("float", event.data["due"])
        elif event.type == "node:fallback":
            assert again is not None
            assert again.chain[-1] == event.data["fallback"]
        elif not ok:
            gone = again is None or (again.visit, again.chain[-1]) != (event.visit, event.data.get("by"))
            assert gone, f"{key} failed, but may go on"
