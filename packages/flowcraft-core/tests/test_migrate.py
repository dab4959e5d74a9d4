"""What moving a run to another blueprint does to its head, and what it refuses: the pure part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from flowcraft.blueprint import ANY, Blueprint, Edge, Join, Node, Retry
from flowcraft.codec import JsonCodec
from flowcraft.engine.draft import MISSING, Draft
from flowcraft.engine.head import DEAD, LIVE, MARK_FAILED, UNMARKED, VOID, Head
from flowcraft.engine.headbytes import decode_head, encode_head
from flowcraft.engine.migrate import HEAD_FIELDS, Migrated, migrate
from flowcraft.engine.transition import (
    Cancel,
    Completed,
    EngineEvent,
    Failed,
    Parked,
    Visit,
    apply,
    fresh_head,
    seal,
    start,
)
from flowcraft.engine.view import run_view
from flowcraft.errors import MigrationRefused
from flowcraft.graph import Graph, compile_graph
from flowcraft.model import ErrorInfo, ValueKey

_CODEC = JsonCodec()


def flow(nodes: Sequence[str | Node], edges: Sequence[str | Edge], **options: Any) -> Blueprint:
    made = tuple(node if isinstance(node, Node) else Node(node, "f") for node in nodes)
    return Blueprint("flow", made, tuple(e if isinstance(e, Edge) else Edge(*e.split(">")) for e in edges), **options)


class Run:
    """A run on plain values, driven by hand."""

    def __init__(self, blueprint: Blueprint) -> None:
        self.graph = compile_graph(blueprint)
        self.values: dict[ValueKey, Any] = {}
        self.commits = 0
        self.head = fresh_head(self.graph, 100.0)
        self._fold(lambda draft: start(draft, None, {}))

    def _draft(self, graph: Graph, head: Head, nonce: str, now: float) -> Draft:
        draft = Draft(
            graph, head, read=lambda key: self.values.get(key, MISSING),
            decode=lambda cell: _CODEC.decode(cell) if isinstance(cell, bytes) else cell, encode=_CODEC.encode,
            record=True,
        )  # fmt: skip
        draft.begin(nonce, now)
        return draft

    def _fold(self, work: Callable[[Draft], object]) -> None:
        self.commits += 1
        draft = self._draft(self.graph, self.head, f"t{self.commits}", 100.0 + self.commits)
        work(draft)
        self.values.update(seal(draft).values)

    def visit(self, node: str) -> Visit:
        activation = self.head.active[self.graph.index[node]]
        return Visit(self.graph.index[node], activation.nonce, activation.visit, activation.attempt)

    def apply(self, *events: EngineEvent) -> None:
        self._fold(lambda draft: [apply(draft, event) for event in events])

    def complete(self, *nodes: str, output: Any = 1, action: str | None = None) -> None:
        self.apply(*(Completed(self.visit(n), _CODEC.encode(output), action) for n in nodes))

    def fail(self, node: str) -> None:
        self.apply(Failed(self.visit(node), ErrorInfo("Error", "no"), retryable=False))

    def move(self, blueprint: Blueprint, now: float = 200.0) -> Migrated:
        new = compile_graph(blueprint)
        before = encode_head(self.head)
        made = migrate(self.graph, new, self.head, draft=lambda graph, head: self._draft(graph, head, "moved", now))
        assert encode_head(self.head) == before
        decode_head(encode_head(made.head))
        self.graph, self.head = new, made.head
        self.values |= {to: self.values.pop(key) for key, to in made.moved} | dict(made.effects.values)
        return made

    def states(self) -> dict[str, str]:
        return {node: view.state for node, view in run_view(self.graph, self.head).nodes.items()}

    def mark(self, edge: str) -> int:
        source, target = edge.split(">")
        (found,) = (
            e for e in self.graph.out[self.graph.index[source]] if self.graph.dst[e] == self.graph.index[target]
        )
        return self.head.marks[found]


def test_every_field_of_a_head_is_moved_on_purpose() -> None:
    known = [name for names in HEAD_FIELDS.values() for name in names]
    assert sorted(known) == sorted(Head.__dataclass_fields__), "say in HEAD_FIELDS and in migrate how a field is moved"


def test_states_visits_and_messages_stay_whatever_the_numbers() -> None:
    run = Run(flow("abcd", ["a>b", "a>c", "b>d", "c>d"]))
    run.complete("a")
    fences = {node: run.visit(node) for node in "bc"}
    made = run.move(flow("dcxba", ["c>d", "a>c", "b>d", "a>b", "d>x"]))
    assert run.states() == {"a": "completed", "b": "ready", "c": "ready", "d": "pending", "x": "pending"}
    assert made.effects.ready == [], "a message that was sent is not sent again"
    for node, fence in fences.items():
        assert run.visit(node) == replace(fence, node=run.graph.index[node])
    assert made.effects.facts[0][:1] == ("run:migrated",)
    run.complete("c", "b")
    run.complete("d")
    run.complete("x")
    assert run.head.phase == "completed"


def test_what_is_decided_now_is_done_at_once() -> None:
    run = Run(flow("abcd", ["a>c", "b>c", "c>d"]))
    run.complete("a")
    made = run.move(flow("abcdn", ["a>c", "c>d", "b>d"]))
    assert run.states() == {"a": "completed", "b": "ready", "c": "ready", "d": "pending", "n": "ready"}
    assert {run.graph.ids[node] for node, _ in made.effects.ready} == {"c", "n"}
    assert {activation.nonce for _, activation in made.effects.ready} == {"moved"}


def test_new_edges_from_what_is_settled() -> None:
    nodes = ["a", "b", "c", "d", "z"]
    run = Run(flow([*nodes, "s"], ["a>b", Edge("a", "s", condition="false"), "c>d", "d>z", "b>z"]))
    run.complete("a")
    run.fail("c")
    new = ["n1", "n2", "n3", "n4", "n5"]
    edges = [
        "a>b", Edge("a", "s", condition="true"), "c>d", "d>z", "b>z", "a>n1", Edge("a", "n2", action="x"),
        Edge("a", "n3", condition="true"), "c>n4", "s>n5",
    ]  # fmt: skip
    run.move(flow([*nodes, "s", *new], edges))
    marks = {f"{e.source}>{e.target}": run.mark(f"{e.source}>{e.target}") for e in run.graph.blueprint.edges}
    assert {name: marks[name] for name in ("a>n1", "a>n2", "a>n3", "c>n4", "s>n5")} == {
        "a>n1": LIVE, "a>n2": DEAD, "a>n3": DEAD, "c>n4": DEAD, "s>n5": DEAD,
    }  # fmt: skip
    assert marks["a>s"] == DEAD, "a condition that changes decides nothing again"
    assert (marks["c>d"], marks["a>b"], marks["b>z"]) == (MARK_FAILED, LIVE, UNMARKED)
    states = run.states()
    assert [states[n] for n in new] == ["ready", "skipped", "skipped", "skipped", "skipped"]


def test_pending_nodes_may_go_and_others_may_not() -> None:
    run = Run(flow("abc", ["a>b", "b>c"]))
    run.complete("a")
    run.move(flow("ab", ["a>b"]))
    assert run.states() == {"a": "completed", "b": "ready"}
    for gone in "ab":
        with pytest.raises(MigrationRefused, match=f"'{gone}' are not in the new blueprint") as refused:
            run.move(flow("ab".replace(gone, "x"), []))
        assert refused.value.nodes == (gone,)
    run.complete("b")
    assert run.head.phase == "completed"


@pytest.mark.parametrize("end", ["completed", "cancelling", "failing"])
def test_a_run_that_has_ended_or_is_ending_stays(end: str) -> None:
    run = Run(flow("ab", [], failure="fail-fast"))
    if end == "completed":
        run.complete("a", "b")
    elif end == "failing":
        run.fail("a")
    else:
        run.apply(Cancel("enough"))
    assert run.head.phase == end
    with pytest.raises(MigrationRefused, match=end):
        run.move(flow("abc", []))


def _loop(*more: str) -> Blueprint:
    edges: list[str | Edge] = ["s>a", "a>b", Edge("b", "a", action="again"), Edge("b", "e", action="on")]
    return flow(["s", "a", "b", "e", *(m for m in more if ">" not in m)], [*edges, *(m for m in more if ">" in m)])


def test_a_cycle_that_has_begun_must_stay_and_others_need_not() -> None:
    run = Run(_loop())
    run.move(_loop("x", "b>x", "x>a"))  # nothing of it has happened
    run = Run(_loop())
    run.complete("s")
    with pytest.raises(MigrationRefused, match="'a', 'b', 'e' are in cycles that have begun") as refused:
        run.move(_loop("x", "b>x", "x>a"))
    assert refused.value.nodes == ("a", "b", "e")
    with pytest.raises(MigrationRefused, match="cycles that have begun"):
        run.move(flow("sabe", ["s>a", "a>b", "b>e"]))
    with pytest.raises(MigrationRefused, match="cycles that have begun"):
        run.move(_loop("b>s"))
    run.complete("a")
    run.complete("b", action="again")
    run.complete("a")
    made = run.move(_loop("n", "m", "b>n", "s>m"))
    assert run.states() == {
        "s": "completed",
        "a": "completed",
        "b": "ready",
        "e": "pending",
        "n": "pending",
        "m": "ready",
    }
    assert [run.graph.ids[n] for n, _ in made.effects.ready] == ["m"]
    assert run.mark("b>n") == UNMARKED, "the cycle goes on, and b has not completed in this round"
    run.complete("b", action="on")
    assert run.states()["e"] == "ready"


def test_edges_into_and_out_of_a_cycle_that_goes_round() -> None:
    run = Run(_loop())
    run.complete("s")
    run.complete("a")
    run.complete("b", action="again")
    run.complete("a")  # in its second round
    more = [
        Edge("s", "b"),
        Edge("a", "n"),
        Edge("s", "x"),
        Edge("a", "x", action="never"),
        Edge("s", "y"),
        Edge("a", "y"),
    ]
    run.move(flow("sabenxy", [*_loop().edges, *more], cycle_entry_points=("a",)))
    assert run.mark("s>b") == VOID, "edges into a cycle do not apply when it goes round"
    assert run.mark("a>n") == LIVE, "what only the cycle reaches is of this round"
    assert (run.mark("a>y"), run.mark("s>y")) == (LIVE, LIVE), "an edge out of a cycle is LIVE at once"
    assert run.mark("a>x") == UNMARKED, "and anything else only when the cycle has ended"
    assert "".join(run.states()[n][0] for n in "sabenxy") == "ccrprpr"
    run.complete("n", "y")
    run.complete("b", action="again")
    run.complete("a")
    assert run.states()["n"] == "ready", "again in this round"
    run.complete("n")
    run.complete("b", action="on")
    run.complete("e")
    assert run.states()["x"] == "ready"
    run.complete("x")
    assert run.head.phase == "completed"


def test_what_hangs_off_a_cycle_may_come_and_go() -> None:
    edges = [*_loop().edges, Edge("b", "n")]
    run = Run(flow("saben", edges))
    run.complete("s")
    run.complete("a")
    run.move(_loop())
    run.move(flow("sabemn", [*edges, Edge("n", "m")]))
    run.complete("b", action="on")
    run.complete("e")
    assert run.states()["n"] == "skipped", "b chose an action"
    assert run.head.phase == "completed"
    run = Run(_loop())
    run.complete("s")
    run.complete("a")
    run.complete("b", action="on")
    run.move(flow("sabem", [*_loop().edges, Edge("e", "m")]))
    run.complete("e")
    run.move(flow("sabemo", [*_loop().edges, Edge("e", "m"), Edge("a", "o")]))
    assert "".join(run.states()[n][0] for n in "sabemo") == "ccccrr"
    run.complete("o", "m")
    assert run.head.phase == "completed"


def test_a_cycle_that_has_ended_may_get_more_to_do() -> None:
    """It does not go round for it, and what it left undecided then is not decided again."""
    run = Run(flow("sabej", [*_loop().edges, "s>j", Edge("a", "j", action="never")]))
    run.complete("s")
    run.complete("a")
    run.complete("b", action="on")
    run.complete("e")
    assert (run.mark("a>j"), run.states()["j"]) == (DEAD, "ready"), "the cycle has ended"
    run.move(flow("sabejm", [*_loop().edges, "s>j", Edge("a", "j", action="never"), "e>m"]))
    assert "".join(run.states()[n][0] for n in "sabejm") == "ccccrr"
    run.complete("m")
    assert run.states()["a"] == "completed"
    run.complete("j")
    assert run.head.phase == "completed"


def test_a_cycle_that_went_round_too_often_is_left_as_it_is() -> None:
    limited = replace(_loop("k"), max_visits=1)
    run = Run(limited)
    run.complete("s")
    run.complete("a")
    run.complete("b", action="again")
    assert run.states()["a"] == "failed"
    with pytest.raises(MigrationRefused, match="cycles"):
        run.move(flow("sabekm", [*limited.edges, Edge("a", "m")], max_visits=1))
    run.move(flow("kmsabe", [*limited.edges, Edge("k", "m")], max_visits=1))


def test_an_edge_that_leaves_a_cycle_from_now_on() -> None:
    """x hung off the cycle, and had been refused in this round; now others lead to it, and it is open until the end."""
    edges = [*_loop().edges, Edge("a", "x", action="other")]
    run = Run(flow("sabex", edges))
    run.complete("s")
    run.complete("a")
    assert (run.states()["x"], run.mark("a>x")) == ("skipped", DEAD)
    with pytest.raises(MigrationRefused, match="cycles"):
        run.move(flow("sabex", [*edges, Edge("s", "x")]))
    run = Run(flow("sabexw", [*edges, Edge("b", "x"), Edge("a", "w")]))
    run.complete("s")
    run.complete("a")
    assert (run.states()["x"], run.mark("a>x")) == ("pending", DEAD)
    run.move(flow("sabexw", [*edges, Edge("b", "x"), Edge("a", "w"), Edge("s", "x")]))
    assert run.mark("a>x") == UNMARKED
    run.move(flow("sabexw", [*edges, Edge("b", "x"), Edge("a", "w")]))
    assert run.mark("a>x") == DEAD, "and back"


def test_fallbacks_that_have_run_stay_with_those_who_named_them() -> None:
    nodes = [Node("a", "f", fallback="h"), Node("b", "f"), "h"]
    run = Run(flow(nodes, ["a>b"]))
    run.move(flow([Node("a", "f", fallback="g"), Node("b", "f", fallback="h"), "h", "g"], ["a>b"]))
    assert run.states() == {"a": "ready", "b": "pending", "h": "pending", "g": "pending"}
    run.fail("a")
    assert run.head.active[0].runs == run.graph.index["g"]
    with pytest.raises(MigrationRefused, match="'g' have run or were decided as fallbacks") as refused:
        run.move(flow([*nodes, "g"], ["a>b"]))
    assert refused.value.nodes == ("g",)
    run.move(flow(["g", "b", Node("a", "f", fallback="g")], ["a>b"]))
    run.complete("a")
    assert run.states() == {"g": "completed", "b": "ready", "a": "completed"}
    run.complete("b")
    assert run.head.phase == "completed"


def test_a_fallback_that_comes_too_late_is_skipped() -> None:
    run = Run(flow("abc", ["a>c"]))
    run.complete("a")
    run.move(flow([Node("a", "f", fallback="h"), "b", "c", "h", "k"], ["a>c", "h>k"]))
    assert "".join(run.states()[n][0] for n in "abchk") == "crrss"
    run.complete("b", "c")
    assert run.head.phase == "completed"


def test_edges_that_fired_a_join_stay() -> None:
    run = Run(flow(["a", "b", Node("j", "f", join=ANY), "e"], ["a>j", "b>j", "j>e"]))
    run.complete("a")
    with pytest.raises(MigrationRefused, match="'j' were started by edges that the new blueprint lacks"):
        run.move(flow(["a", "b", Node("j", "f", join=ANY), "e"], ["b>j", "j>e"]))
    run.move(flow(["b", "e", Node("j", "f", join=ANY), "a"], ["b>j", "a>j", "j>e"]))
    assert run.head.wins == {2: (run.graph.out[3][0],)}


def test_what_a_fired_join_does_not_need_any_more_is_not_begun() -> None:
    join = Node("j", "f", join=Join(at_least=1))
    run = Run(flow(["a", "b", join, "e"], ["a>j", "b>j", "b>e"]))
    run.complete("a")
    assert run.states()["b"] == "ready", "e needs it"
    made = run.move(flow(["a", "b", join, "n"], ["a>j", "b>j", "n>b"]))
    assert run.states() == {"a": "completed", "b": "draining", "j": "ready", "n": "cancelled"}
    assert [run.graph.ids[n] for n, _ in made.effects.revoked] == ["b"]
    assert made.effects.ready == []


def test_what_transforms_made_moves_with_its_edge() -> None:
    edges = [Edge("a", "c", transform="input + 1"), Edge("b", "c", transform="input + 2")]
    run = Run(flow("abc", edges))
    run.complete("a", "b", output=10)
    before = {key: run.values[key] for key in run.values if key.space == "input"}
    assert set(before.values()) == {b"11", b"12"}
    made = run.move(flow("cbax", [edges[1], edges[0]]))
    assert len(made.moved) == 2
    for source, wanted in (("a", b"11"), ("b", b"12")):
        (e,) = run.graph.out[run.graph.index[source]]
        assert run.values[ValueKey("input", str(e), 1)] == wanted


def test_a_transform_that_nobody_has_evaluated_is_refused() -> None:
    run = Run(flow("abc", ["a>b", "b>c"]))
    run.complete("a")
    for edges in ([Edge("a", "b", transform="input"), "b>c"], ["a>b", "b>c", Edge("a", "c", transform="input")]):
        with pytest.raises(MigrationRefused, match="'a' have completed, and an edge from them has a transform"):
            run.move(flow("abc", edges))  # type: ignore[arg-type]  # edges of both kinds
    run.complete("b")
    run.move(flow("abc", [Edge("a", "b", transform="input"), "b>c"]))  # nobody asks for it any more


def test_timers_deadlines_and_what_is_parked() -> None:
    slow = Node("r", "f", retry=Retry(attempts=2, delay=1000.0, jitter=0.0))
    run = Run(flow(["p", slow], [], timeout=500.0))
    run.apply(Parked(run.visit("p"), "no function"), Failed(run.visit("r"), ErrorInfo("Error", "later")))
    due = run.head.active[1].due
    run.move(flow([slow, "p"], [], timeout=500.0), now=103.0)
    assert run.head.deadline == 600.0
    assert run.head.active[0].due == due, "a retry waits for its time"
    assert run.head.active[1].due == 103.0, "what is parked may be known under its new name"
    assert run.head.wake_at is not None
    assert run.head.wake_at <= 103.0
    run.move(flow([slow, "p"], [], timeout=50.0))
    assert run.head.deadline == 150.0
    run.move(flow([slow, "p"], []))
    assert run.head.deadline is None


def test_a_stricter_policy_applies_to_what_has_failed() -> None:
    run = Run(flow("abc", ["b>c"]))
    run.fail("a")
    run.move(flow("abc", ["b>c"], failure="fail-fast"))
    assert run.head.phase == "failing"
    assert run.states() == {"a": "failed", "b": "draining", "c": "cancelled"}


def test_what_drains_goes_on_draining() -> None:
    join = Node("j", "f", join=ANY)
    run = Run(flow(["a", "b", join], ["a>j", "b>j"]))
    run.complete("a")
    assert run.states()["b"] == "draining"
    run.move(flow([join, "b", "a"], ["a>j", "b>j"]))
    assert run.states()["b"] == "draining"
    run.complete("j")
    run.complete("b")
    assert run.head.phase == "completed"
