"""The scripts of cases: one run, moved by words.

``a``, ``f@a``, ``w[2]``      that visit (for another node, of an item) ends as its params say; it must be ready
``-a``, ``~a``                nothing runs for it now; it is draining and abandoned
``rest``, ``rest:a``          put aside, all that is ready or one; ``wake:a`` ends that
``tick``, ``tick:90``         time goes on to when something is due, or by so many seconds
``signal:w#2:yes=id``         a signal for the wait w (its visit 2, with an action and an id); ``->late`` is its answer
``start:s``, ``done:s``       the subflow's run begins, and completes as the params of s say, or ``fail:s``, ``stop:s``
``pause``, ``unpause``, ``cancel``, ``patch:K=4``, ``patch:K``, ``mark:a:yes``, ``retry``, ``retry:a+b``,
``rollback:a``                the commands
``no:retry``                  a command that is refused
``is:paused``, ``held:w=2``   the status of the run, how many items have not begun
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from .behaviour import Err, Ok, Result
from .oracle import Oracle
from .views import Slot

__all__ = ["OraclePlayer", "play"]

_SIGNAL = re.compile(r"(\w+)(?:#(\d+))?(?::(\w+))?(?:=(\w+))?(?:->(.+))?")
_VERBS = (
    "no", "pause", "unpause", "patch", "mark", "retry", "rollback", "is", "held", "signal", "start", "done", "fail",
    "stop", "tick", "wake", "cancel",
)  # fmt: skip


class OraclePlayer:
    """Does to the oracle what a word says. Who plays something else beside it overrides the methods."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self._signals = 0

    def look(self) -> None:
        """Before each word."""

    def settle(self, slot: Slot) -> None:
        value = self.oracle.input_now(slot)
        self.oracle.settle(slot, self.oracle.behaviour(slot.runs, slot.visit, slot.attempt, value))

    def rest(self, slot: Slot) -> None:
        self.oracle.rest(slot)

    def wake(self, key: str) -> None:
        self.oracle.wake(key)

    def drop(self, slot: Slot) -> None:
        self.oracle.drop(slot)

    def cancel(self) -> None:
        self.oracle.cancel()

    def tick(self, now: float) -> None:
        self.oracle.tick(now)

    def signal(self, node: str, action: str | None, signal_id: str, visit: int | None) -> str:
        return self.oracle.signal(node, f"{node}!", action, signal_id=signal_id, visit=visit)

    def child_started(self, slot: Slot) -> None:
        self.oracle.child_started(slot)

    def child_ended(self, key: str, result: Result | None, writes: Mapping[str, object]) -> None:
        self.oracle.child_ended(key, result, writes)

    def command(self, name: str, rest: str) -> bool:
        oracle = self.oracle
        first, _, second = rest.partition(":")
        if name == "patch":
            key, equals, number = rest.partition("=")
            return oracle.patch({key: {"n": int(number)}}) if equals else oracle.patch({}, [key])
        if name == "mark":
            return oracle.mark_completed(first, "marked", second or None)
        if name == "retry":
            return oracle.retry(rest.split("+") if rest else None)
        return oracle.rollback(rest or None) if name == "rollback" else getattr(oracle, name)()

    # --- words

    def act(self, word: str) -> None:
        self.look()
        name, _, rest = word.partition(":")
        if name not in _VERBS:
            self._visit(word)
        elif name == "no":
            assert not self.command(*rest.partition(":")[::2]), f"{rest} is not refused"
        elif name in ("pause", "unpause", "patch", "mark", "retry", "rollback"):
            assert self.command(name, rest), f"{word} is refused"
        elif name == "is":
            assert self.oracle.status() == rest, f"not {rest}, but {self.oracle.status()}"
        elif name == "held":
            node, _, count = rest.partition("=")
            assert self.oracle.held().get(node, 0) == int(count), f"held are {self.oracle.held()}"
        elif name == "signal":
            self._signal(word.partition(":")[2])
        elif name in ("start", "done", "fail", "stop"):
            self._child(name, rest)
        elif name == "tick":
            self.tick(self.oracle.now + float(rest) if rest else min(self.oracle.asleep().values()))
        elif name == "wake":
            self.wake(rest)
        else:
            self.cancel()

    def _visit(self, word: str) -> None:
        ready = self.oracle.ready()
        if word.startswith("rest"):
            chosen = word.partition(":")[2]
            for slot in [slot for slot in ready if slot.key == (chosen or slot.key)]:
                self.rest(slot)
        elif word.startswith("-"):
            assert word[1:] not in [slot.key for slot in ready], f"{word[1:]} is ready"
        elif word.startswith("~"):
            self.drop(next(slot for slot in ready if slot.key == word[1:]))
        else:
            self.settle(self._ready(word))

    def _ready(self, word: str) -> Slot:
        ready = self.oracle.ready()
        runs, _, node = word.partition("@")
        found = [slot for slot in ready if (slot.key, slot.runs) == (node or runs, (runs if node else slot.runs))]
        assert found, f"{word} is not ready, but {', '.join(map(str, ready))}"
        assert node or found[0].runs == found[0].node, f"{found[0]} is ready, not {word}"
        return found[0]

    def _signal(self, text: str) -> None:
        match = _SIGNAL.fullmatch(text)
        assert match is not None, text
        node, visit, action, signal_id, expected = match.groups()
        self._signals += 1
        answer = self.signal(node, action, signal_id or f"s{self._signals}", int(visit) if visit else None)
        assert answer == (expected or "accepted").replace("_", " "), f"the answer to {text} is {answer}"

    def _child(self, name: str, key: str) -> None:
        if name == "start":
            self.child_started(self._ready(key))
            return
        activation = self.oracle.active[key]
        runs = activation.chain[-1]
        params = self.oracle.facts.nodes[runs].params
        named = params.get("outputs")
        writes = {str(to): {"n": 7, "from": name} for to, name in named.items()} if isinstance(named, Mapping) else {}
        ended: dict[str, Result | None] = {"done": Ok(params.get("output", runs)), "fail": Err("SubflowFailed")}
        self.child_ended(key, ended.get(name), writes if name == "done" else {})

    def finish(self) -> None:
        """Whatever is ready, in the blueprint's order; then the next that is due; then what was put aside."""
        oracle = self.oracle
        while oracle.active:
            self.look()
            if slots := oracle.ready():
                self.settle(slots[0])
            elif asleep := oracle.asleep():
                self.tick(min(asleep.values()))
            elif oracle.resting:
                self.wake(min(oracle.resting))
            else:
                raise AssertionError(f"{', '.join(oracle.active)} will never go on")


def play(player: OraclePlayer, order: Iterable[str]) -> None:
    """The whole run."""
    for word in order:
        player.act(word)
    player.finish()
