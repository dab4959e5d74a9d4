"""What a run came to, as its caller sees it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from flowcraft import ClassNode, Edge, FatalError, Flow, FlowRuntime, Node, NodeContext, Result, RunResult
from flowcraft.blueprint import ANY, Blueprint
from flowcraft.errors import DefinitionError, RunFailed

Ctx = NodeContext[Any, Any]


async def ok(ctx: Ctx) -> str:
    return ctx.node_id


async def none(ctx: Ctx) -> None:
    return None


async def bad(ctx: Ctx) -> None:
    raise ValueError(f"no {ctx.node_id}")


async def pick(ctx: Ctx) -> Result[str]:
    return Result("picked", action="go")


REGISTRY: dict[str, Any] = {"ok": ok, "none": none, "bad": bad, "pick": pick}


async def run(nodes: str, edges: str = "", **settings: Any) -> RunResult:
    """``a:ok b:bad>f`` and ``a-b b-c:action``; ``>f`` names a fallback, ``?`` an any join."""
    made = []
    for text in nodes.split():
        name, _, uses = text.partition(":")
        uses, _, fallback = uses.partition(">")
        made.append(
            Node(name.rstrip("?"), uses, fallback=fallback or None, join=ANY if "?" in name else Node("x", "y").join)
        )
    ends = [(text.partition(":")[0].split("-"), text.partition(":")[2] or None) for text in edges.split()]
    blueprint = Blueprint("b", tuple(made), tuple(Edge(s, t, action=action) for (s, t), action in ends), **settings)
    return await FlowRuntime(registry=REGISTRY).run(blueprint, run_id="r")


async def test_a_completed_run() -> None:
    result = await run("a:ok b:ok", "a-b")
    assert result == RunResult(
        run_id="r",
        status="completed",
        outputs={"a": "a", "b": "b"},
        ends=("b",),
        nodes={"a": "completed", "b": "completed"},
    )
    assert result.raise_for_failure() is result
    assert (result.errors, result.failures, result.cause, result.context) == ((), (), "", {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.status = "failed"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("nodes", "edges", "output"),
    [
        ("a:ok", "", "a"),
        ("a:none", "", None),
        ("a:ok b:ok c:ok", "a-b a-c", {"b": "b", "c": "c"}),
        ("a:ok b:none c:ok", "a-b a-c", {"b": None, "c": "c"}),
        ("p:pick b:ok c:ok", "p-b:go p-c:stop", "b"),
        ("p:pick b:ok", "p-b:stop", None),
        ("a:bad b:ok", "a-b", None),
        ("a:bad b:ok c:ok", "a-b", "c"),
        ("a:bad>f f:ok", "", "f"),
        ("a:bad>f f:ok z:ok", "a-z f-z", "z"),
    ],
)
async def test_the_output_of_a_run_is_that_of_its_ends(nodes: str, edges: str, output: object) -> None:
    assert (await run(nodes, edges)).output() == output


async def test_the_output_of_a_node() -> None:
    result = await run("a:ok n:none b:bad s:ok", "b-s")
    assert result.output("a") == "a"
    assert result.output("n") is None, "None is an output"
    with pytest.raises(DefinitionError, match="'b' is failed and has no output in run 'r'"):
        result.output("b")
    with pytest.raises(DefinitionError, match="'s' is skipped and has no output in run 'r'"):
        result.output("s")
    with pytest.raises(DefinitionError, match="'x' is no node in run 'r'") as caught:
        result.output("x")
    assert caught.value.subject == "x"


async def test_the_output_of_a_function_or_class() -> None:
    class Shout(ClassNode[str, str, None]):
        async def exec(self, prepared: str, ctx: NodeContext[str, None]) -> str:
            return prepared.upper()

    flow = Flow[None]("flow")
    flow.node(id="say")(ok)
    flow.node(after="say", id="shout")(Shout)
    result = await FlowRuntime([flow]).run(flow)
    assert (result.output(ok), result.output(Shout)) == ("say", "SAY")
    with pytest.raises(DefinitionError, match="flow 'flow' has no node bad"):
        result.output(bad)


async def test_a_failed_run() -> None:
    result = await run("a:bad b:bad c:ok d:ok", "c-d")
    assert result.status == "failed"
    assert result.nodes == {"a": "failed", "b": "failed", "c": "completed", "d": "completed"}
    assert [str(failure) for failure in result.errors] == ["a: ValueError: no a", "b: ValueError: no b"]
    assert "in bad" in result.errors[0].errors[0].trace
    with pytest.raises(RunFailed, match=r"^run 'r' failed: a: ValueError: no a \| b: ValueError: no b$") as caught:
        result.raise_for_failure()
    assert caught.value.errors == ("a: ValueError: no a", "b: ValueError: no b")
    assert result.output() == "d", "what was done is still there"


async def test_a_fallback_that_fails_too_is_listed() -> None:
    result = await run("a:bad>f f:bad>g g:bad")
    assert result.status == "failed"
    assert [str(failure) for failure in result.failures] == [
        "a: ValueError: no a; then ValueError: no f; then ValueError: no g"
    ]
    assert result.nodes == {"a": "failed", "f": "failed", "g": "failed"}


async def test_a_handled_failure_is_none() -> None:
    result = await run("a:bad>f f:ok")
    assert (result.status, result.failures) == ("completed", ())
    assert result.outputs == {"a": "f", "f": "f"}


async def test_an_absolved_failure_is_listed_but_is_no_error() -> None:
    result = await run("s:ok x:bad y:ok j?:ok", "s-x s-y x-j y-j")
    assert (result.status, result.errors) == ("completed", ())
    assert [(failure.node_id, failure.absolved) for failure in result.failures] == [("x", True)]
    assert result.raise_for_failure().output() == "j"


async def test_fail_fast() -> None:
    result = await run("a:bad b:ok c:ok", "a-b c-b", failure="fail-fast")
    assert (result.status, result.nodes) == ("failed", {"a": "failed", "b": "cancelled", "c": "cancelled"})


async def test_long_and_odd_errors_are_told_and_cut() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    async def long(ctx: Ctx) -> None:
        raise ValueError("x" * 1_000_000)

    async def surrogate(ctx: Ctx) -> None:
        raise FileNotFoundError(2, "No such file", "caf\udce9.txt")

    async def odd(ctx: Ctx) -> None:
        raise Odd

    async def empty(ctx: Ctx) -> None:
        raise FatalError

    async def nul(ctx: Ctx) -> None:
        raise ValueError("a\0b")

    functions: dict[str, Any] = {"long": long, "surrogate": surrogate, "odd": odd, "empty": empty, "nul": nul}
    seen: list[Any] = []
    runtime = FlowRuntime(registry=functions, listeners=[seen.append])
    result = await runtime.run(Blueprint("b", tuple(Node(name, name) for name in functions)))
    told = {failure.node_id: failure.errors[0] for failure in result.errors}
    assert told["long"].text == "x" * 8000
    assert len(told["long"].trace) <= 8000
    assert r"caf\udce9.txt" in told["surrogate"].text
    assert told["odd"].kind == "Odd"
    assert str(told["empty"]) == "FatalError"
    assert told["nul"].text == "a\0b"
    assert max(len(event.to_json()) for event in seen) < 20_000
