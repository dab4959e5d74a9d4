"""Random workflows that are moved to another blueprint while they run, again and again.

First to the same workflow in other numbers, in lock step with the oracle, which does not notice. Then to workflows that
were changed at random: a run is refused and goes on as before, or it ends.
"""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from flowcraft.blueprint import Blueprint, Edge, Node, Retry
from flowcraft.engine.draft import Draft
from flowcraft.engine.head import OPEN, PENDING, Head
from flowcraft.engine.headbytes import decode_head, encode_head
from flowcraft.engine.migrate import migrate
from flowcraft.engine.slots import NODE_MASK, item_of, item_slot, node_of
from flowcraft.errors import DefinitionError, MigrationRefused
from flowcraft.graph import Graph, compile_graph
from flowcraft.model import ValueKey

from ..oracle.behaviour import behave, behaviour_of
from ..oracle.constructs import generate_constructs
from ..oracle.generator import generate
from ..oracle.oracle import Oracle
from ..oracle.views import Slot
from .driving import Chaos, CheckedRun, in_lock_step
from .mixing import Mix, mixed
from .pairing import Pair, ToldRun
from .seeds import both, replayable, seeds


class _Everything(set[ValueKey]):
    def __contains__(self, key: object) -> bool:
        return True


class MovingRun(CheckedRun):
    """A checked run that can be moved to another graph."""

    def move(self, new: Graph) -> None:
        old, before, head = self.graph, self.stored.head, self.head

        def draft(graph: Graph, moved: Head) -> Draft:
            self.graph = graph
            return self._draft(moved, _Everything())

        try:
            made = migrate(old, new, head, draft=draft)
        finally:
            assert encode_head(head) == before, "the head that was given has changed"
        self._keep(old, made.head.states, new)
        values = {to: self.stored.values.pop(key) for key, to in made.moved}
        self.stored.values.update(values)
        for key in made.effects.deleted:
            self.stored.values.pop(key, None)
        for key, cell in made.effects.values.items():
            assert isinstance(cell, bytes)
            self.stored.values[key] = cell
        self.stored.head = encode_head(made.head)
        renumbered = {n: new.index.get(node_id, -1) for n, node_id in enumerate(old.ids)}

        def moved(slot: int) -> int:
            node = renumbered[node_of(slot)]
            return node if slot <= NODE_MASK else item_slot(node, item_of(slot))

        self.given = [replace(visit, node=moved(visit.node)) for visit in self.given]
        self.told = {(moved(slot), nonce) for slot, nonce in self.told}
        self.told |= {(slot, activation.nonce) for slot, activation in made.effects.ready}
        ended = self.ended.items()
        self.ended = Counter({(renumbered.get(node, -1), by, visit): n for (node, by, visit), n in ended})
        assert made.effects.facts[0][0] == "run:migrated"
        self._check_change(made.head, made.effects, self._as_it_was(head, made.head, moved))

    @staticmethod
    def _as_it_was(head: Head, made: Head, moved: Callable[[int], int]) -> bytes:
        """The head before, as far as the checks look at it, in the new numbers."""
        before = decode_head(encode_head(made))
        before.states = bytearray(len(made.states))
        before.active = {moved(slot): activation for slot, activation in head.active.items()}
        for slot in head.active:
            before.put(moved(slot), head.state(slot))
        return encode_head(before)

    def _keep(self, old: Graph, states: bytearray, new: Graph) -> None:
        """What was decided stays decided: only what was pending, or is not needed any more, may differ, and cycles
        whose round ends with the move."""
        head = decode_head(self.stored.head)
        for n, node_id in enumerate(old.ids):
            if head.states[n] not in (PENDING, OPEN) and n not in head.active and not old.scope_of[n]:
                assert states[new.index[node_id]] == head.states[n], f"{node_id} was decided otherwise"


class _Restless(MovingRun):
    """Moved to other numbers whenever somebody looks at it, now and then."""

    source: random.Random
    moves = 0

    def ready(self) -> list[Slot]:
        self.stir()
        return super().ready()

    def stir(self) -> None:
        """Move it, perhaps."""
        if self.head.phase == "running" and self.source.random() < 0.4:
            graph = _shuffled(self.graph, self.source)
            if graph is not None:
                self.move(graph)
                _Restless.moves += 1


class _OfConstructs(_Restless, ToldRun):
    def ready(self) -> list[Slot]:
        return CheckedRun.ready(self)  # its pair says when


class _RestlessPair(Pair):
    def look(self) -> None:
        assert isinstance(self.run, _OfConstructs)
        self.run.stir()
        super().look()


def _shuffled(graph: Graph, source: random.Random) -> Graph | None:
    """The same workflow in other numbers; None if the order of the nodes decides where a cycle begins."""
    nodes = list(graph.blueprint.nodes)
    source.shuffle(nodes)
    try:
        made = compile_graph(replace(graph.blueprint, nodes=tuple(nodes)))
    except DefinitionError:
        return None
    return made if _cycles(made) == _cycles(graph) else None


def _cycles(graph: Graph) -> tuple[object, object]:
    """Where they begin, and which of their edges are ignored."""
    begun = {(graph.ids[p.header], frozenset(graph.ids[n] for n in p.members)) for p in graph.scopes[1:]}
    return begun, set(graph.ignored)


def _later(node: Node) -> Node:
    return node if node.retry.attempts == 1 else replace(node, retry=Retry(node.retry.attempts, delay=60.0, jitter=0.0))


def _renumbered(seed: int) -> str:
    source = random.Random(seed)
    workflow = generate(source, refused=0.0)
    blueprint = workflow.blueprint
    if source.random() < 0.5:
        blueprint = replace(blueprint, nodes=tuple(map(_later, blueprint.nodes)))
    made = both(blueprint, workflow.run_input)
    assert made is not None
    run = _Restless(blueprint, workflow.run_input, graph=made[0])
    run.source = random.Random(-seed)
    chaos = source.choice((Chaos(), Chaos(fold=0.6), Chaos(cancel=0.1)))
    return in_lock_step(run, made[1], source, chaos).status


@pytest.mark.timeout(3600)
def test_nobody_notices_other_numbers() -> None:
    ends: Counter[str] = Counter()
    before = _Restless.moves
    for seed in seeds(800):
        with replayable(__file__, seed):
            ends[_renumbered(seed)] += 1
    moves = _Restless.moves - before
    print(f"renumbered: {sum(ends.values())} workflows, {moves} moves, {dict(ends)}")
    assert moves > sum(ends.values())


def _constructs_renumbered(seed: int) -> str:
    source = random.Random(seed)
    workflow = generate_constructs(source)
    blueprint = workflow.blueprint
    run = _OfConstructs(blueprint, workflow.run_input, graph=compile_graph(blueprint))
    run.source = random.Random(-seed)
    pair = _RestlessPair(run, Oracle(blueprint, behaviour_of(blueprint), workflow.run_input))
    mixed(pair, source, source.choice((Mix(), Mix(cancel=0.05), Mix(pause=0.1), Mix(mark=0.05))), [])
    return pair.oracle.status()


@pytest.mark.timeout(3600)
def test_nobody_notices_other_numbers_of_constructs() -> None:
    ends: Counter[str] = Counter()
    before = _Restless.moves
    for seed in seeds(300):
        with replayable(__file__, seed):
            ends[_constructs_renumbered(seed)] += 1
    moves = _Restless.moves - before
    print(f"constructs renumbered: {sum(ends.values())} workflows, {moves} moves, {dict(ends)}")
    assert moves > sum(ends.values())


def _changed(source: random.Random, blueprint: Blueprint, number: int) -> Blueprint:
    """Some nodes and edges gone, some new, some with other conditions, joins and fallbacks."""
    nodes = {node.id: node for node in blueprint.nodes}
    edges = list(blueprint.edges)
    for _ in range(source.randint(1, 4)):
        kind = source.choice(("drop node", "drop edge", "add node", "add edge", "condition", "join", "fallback"))
        names = list(nodes)
        one, other = source.choice(names), source.choice(names)
        if kind == "drop node" and len(nodes) > 1:
            del nodes[one]
        elif kind == "drop edge" and edges:
            edges.pop(source.randrange(len(edges)))
        elif kind == "add node":
            name = f"new {number} {len(nodes)}"
            nodes[name] = Node(name, "behave")
            edges += [Edge(one, name)] * source.randint(0, 1) + [Edge(name, other)] * source.randint(0, 1)
        elif kind == "add edge":
            edges.append(Edge(one, other, action=source.choice((None, None, "x"))))
        elif kind == "condition" and edges:
            n = source.randrange(len(edges))
            edges[n] = replace(edges[n], condition=source.choice((None, "false", "input.n > 300")))
        elif kind == "join":
            join = source.choice([node.join for node in nodes.values()])
            nodes[one] = replace(nodes[one], join=join)
        elif kind == "fallback" and one != other:
            nodes[one] = replace(nodes[one], fallback=source.choice((None, other)))
    kept = [edge for edge in edges if edge.source in nodes and edge.target in nodes]
    made = [replace(n, fallback=n.fallback if n.fallback in nodes else None) for n in nodes.values()]
    entries = tuple(entry for entry in blueprint.cycle_entry_points if entry in nodes)
    return replace(blueprint, nodes=tuple(made), edges=tuple(kept), cycle_entry_points=entries)


def _at_random(seed: int, tally: Counter[str]) -> str:
    source = random.Random(seed)
    workflow = generate(source, refused=0.0)
    run = MovingRun(workflow.blueprint, workflow.run_input)
    number = 0
    for _ in range(5_000):
        head = run.head
        if head.terminal:
            return head.phase
        if head.phase == "running" and source.random() < 0.3:
            number += 1
            before = run.stored.head
            try:
                run.move(compile_graph(replace(_changed(source, run.graph.blueprint, number), max_visits=20)))
                tally["moved"] += 1
            except DefinitionError:
                tally["no workflow"] += 1
            except MigrationRefused as refused:
                tally["refused" if refused.nodes else "refused for no node"] += 1
                assert run.stored.head == before
            continue
        slots = run.ready()
        chosen = source.sample(slots, min(len(slots), source.randint(1, 3)))
        run.fold([run.event(s, behave(run.graph.blueprint.node(s.runs).params, s.runs, s.visit, s.attempt,
                                      run.input_of(s))) for s in chosen])  # fmt: skip
    raise AssertionError("it does not end")


@pytest.mark.timeout(3600)
def test_runs_that_are_moved_to_changed_workflows_end() -> None:
    ends: Counter[str] = Counter()
    tally: Counter[str] = Counter()
    for seed in seeds(1500):
        with replayable(__file__, seed):
            ends[_at_random(seed, tally)] += 1
    print(f"changed: {sum(ends.values())} workflows, {dict(ends)}, {dict(tally)}")
    assert tally["moved"] > 200
    assert tally["refused"] > 200
    assert not tally["refused for no node"]
