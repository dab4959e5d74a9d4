"""All constructs and commands in a random order, in lock step."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

import random
from dataclasses import dataclass

from flowcraft.engine.head import PARKED, RETRYING
from flowcraft.engine.transition import Visit

from ..oracle.behaviour import Err, Ok, Result
from ..oracle.views import Slot
from .driving import CheckedRun
from .pairing import Pair

__all__ = ["Mix", "mixed"]


@dataclass(frozen=True)
class Mix:
    """How often, of 1, something else happens than one outcome."""

    park: float = 0.03
    drop: float = 0.2
    cancel: float = 0.0
    pause: float = 0.0
    patch: float = 0.03
    mark: float = 0.0
    signal: float = 0.3
    time: float = 0.2
    retries: int = 0
    rollback: float = 0.0
    stale: float = 0.2
    #: Avoid what is known to differ in later epochs: outcomes after a stop, and headers that went round too often.
    tidy: bool = True


def mixed(pair: Pair, source: random.Random, mix: Mix, tale: list[str]) -> None:
    """Drive both to the end, and on through a few epochs."""
    retries = mix.retries
    for _ in range(4_000):
        pair.look()
        if not pair.oracle.active:
            pair.compare_ends()
            word = _after_the_end(pair, source, mix, retries)
            if not word:
                break
            retries -= 1
            tale.append(word)
            pair.act(word)
            continue
        _step(pair, source, mix, tale)
    else:
        raise AssertionError("it does not end")
    run = pair.run
    run.refuse(run.given[-8:])


def _after_the_end(pair: Pair, source: random.Random, mix: Mix, retries: int) -> str:
    oracle = pair.oracle
    if retries <= 0 or (mix.tidy and any(failure.kind == "limit" for failure in oracle.failures)):
        return ""
    if source.random() < mix.rollback:
        return _rollback(pair, source)
    named = oracle._failed()
    if oracle.status() not in ("failed", "cancelled"):
        return "no:retry"
    return "retry" if named or oracle._stopped() else "no:retry"


def _rollback(pair: Pair, source: random.Random) -> str:
    ran = [
        n
        for n, v in pair.oracle.result().nodes.items()
        if v.state in ("completed", "failed") and n not in pair.oracle.facts.only_called
    ]
    return f"rollback:{source.choice(ran)}" if ran and source.random() < 0.6 else "rollback"


def _step(pair: Pair, source: random.Random, mix: Mix, tale: list[str]) -> None:
    oracle, run = pair.oracle, pair.run

    def do(word: str) -> None:
        tale.append(word)
        pair.act(word)

    calm = oracle.ending is None
    if calm and source.random() < mix.pause:
        do("unpause" if oracle.paused else "pause")
    elif (calm or oracle.rolling is not None) and source.random() < mix.cancel:
        do("cancel")
    elif calm and source.random() < mix.rollback * 0.1:
        do(_rollback(pair, source))
    elif source.random() < mix.patch:
        do(f"patch:K={source.randrange(600)}" if source.random() < 0.8 else "patch:K")
    elif calm and source.random() < mix.mark:
        _mark(pair, source, tale)
    elif source.random() < mix.signal and _signal(pair, source, tale):
        pass
    else:
        _go_on(pair, source, mix, tale)
    if source.random() < mix.stale:
        now = {run.visit(slot) for slot in run.ready()}
        old = [visit for visit in run.given if visit not in now and _is_over(run, visit)]
        run.refuse(source.sample(old, min(3, len(old))))


def _is_over(run: CheckedRun, visit: Visit) -> bool:
    a = run.head.active.get(visit.node)
    return a is None or (a.nonce, a.visit, a.attempt) != (visit.nonce, visit.visit, visit.attempt)


def _mark(pair: Pair, source: random.Random, tale: list[str]) -> None:
    oracle = pair.oracle
    node = source.choice(list(oracle.facts.nodes))
    heads = {scope.header for scope in oracle.facts.scopes}
    if node in heads and oracle.state[node] == "pending":
        return  # not agreed upon: whether a header's visit that was marked counts
    if oracle.facts.around[node] and oracle.state[node] == "pending":
        return  # not agreed upon: what a header gets that has not run yet when a node of its body is marked
    if oracle.facts.callers[node] or node in oracle.facts.undo.values() or node in oracle.facts.undo:
        return
    twin = oracle.clone()
    actions = [e.action for e in oracle.facts.edges.values() if e.source == node and e.action]
    action = source.choice([None, *actions])
    done = twin.mark_completed(node, "marked", action)
    word = f"mark:{node}" + (f":{action}" if action else "")
    tale.append(word if done else f"no:{word}")
    pair.act(tale[-1])


def _signal(pair: Pair, source: random.Random, tale: list[str]) -> bool:
    """To a wait, in whatever state it is, but most often to one that waits."""
    oracle = pair.oracle
    waits = [n for n, kind in oracle.facts.kind.items() if kind == "wait"]
    if not waits:
        return False
    open_ones = [
        oracle.active[key].chain[-1]
        for key in oracle.waiting
        if oracle.facts.kind[oracle.active[key].chain[-1]] == "wait"
    ]
    node = source.choice(open_ones) if open_ones and source.random() < 0.7 else source.choice(waits)
    actions = [e.action for e in oracle.facts.edges.values() if e.source == node and e.action]
    action = source.choice([None, *actions])
    visit = source.choice((None, None, None, None, oracle.visits[node], oracle.visits[node] + 1)) or None
    twin = oracle.clone()
    answer = twin.signal(node, "?", action, signal_id=f"s{pair._signals + 1}", visit=visit)
    word = (
        f"signal:{node}"
        + (f"#{visit}" if visit else "")
        + (f":{action}" if action else "")
        + f"->{answer.replace(' ', '_')}"
    )
    tale.append(word)
    pair.act(word)
    return True


def _go_on(pair: Pair, source: random.Random, mix: Mix, tale: list[str]) -> None:
    oracle, run = pair.oracle, pair.run
    ready = oracle.ready()
    children = sorted(oracle.children)
    times = _times(pair)
    if children and (not ready or source.random() < 0.3):
        _child(pair, source, source.choice(children), tale)
    elif times and (not ready or source.random() < mix.time):
        tale.append(f"to {min(times) - run.now}")
        pair.advance(min(times), can=source.random() < 0.8)
    elif ready:
        _slot(pair, source, mix, source.choice(ready), tale)
    elif oracle.paused:
        tale.append("unpause")
        pair.act("unpause")
    elif not children:
        key = next(iter(oracle.waiting))
        word = f"signal:{oracle.active[key].chain[-1]}"
        tale.append(word)
        pair.act(word)


def _times(pair: Pair) -> list[float]:
    head = pair.run.head
    resting = [a.due for n, a in head.active.items() if head.state(n) in (RETRYING, PARKED)]
    return [*resting, *pair.oracle.asleep().values()]


def _child(pair: Pair, source: random.Random, key: str, tale: list[str]) -> None:
    oracle = pair.oracle
    activation = oracle.active[key]
    slot = activation.slot
    if activation.draining:
        result: Result | None = None
    else:
        outcome = oracle.behaviour(slot.runs, slot.visit, slot.attempt, activation.input)
        result = None if isinstance(outcome, Err) and not outcome.retryable else outcome
        if isinstance(result, Ok):
            result = Ok(result.output)
    named = oracle.facts.nodes[slot.runs].params.get("outputs")
    writes = {"K": {"n": source.randrange(600)}} if named and isinstance(result, Ok) else {}
    tale.append(f"child of {key}: {result}")
    pair.child_ended(key, result, writes)


def _slot(pair: Pair, source: random.Random, mix: Mix, slot: Slot, tale: list[str]) -> None:
    oracle = pair.oracle
    activation = oracle.active[slot.key]
    if activation.draining and (source.random() < mix.drop or (mix.tidy and mix.retries and oracle.ending is not None)):
        tale.append(f"~{slot}")
        pair.drop(slot)
    elif not activation.draining and not activation.undoes and slot.item < 0 and source.random() < mix.park:
        tale.append(f"rest:{slot}")
        pair.rest(slot)
    elif oracle.facts.kind[slot.runs] == "subflow" and not activation.undoes:
        if activation.draining:
            tale.append(f"~{slot}")
            pair.drop(slot)
        else:
            tale.append(f"start:{slot}")
            pair.child_started(slot)
    else:
        tale.append(str(slot))
        pair.settle(slot)
