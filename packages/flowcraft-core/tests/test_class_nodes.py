"""Nodes as classes: prep, exec, post, and what happens when one of them fails."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any, Generic, TypeVar

import pytest

from flowcraft import (
    Blueprint,
    ClassNode,
    Edge,
    FatalError,
    Flow,
    FlowRuntime,
    Node,
    NodeContext,
    Result,
    Retry,
    RunResult,
)
from flowcraft.errors import DefinitionError, SerializationError
from flowcraft.registry import node_function

Ctx = NodeContext[Any, Any]
T = TypeVar("T")


def lifecycle(log: list[str], **errors: Any) -> type[ClassNode[Any, Any, Any]]:
    """A class that logs its phases; ``phase=error`` makes one raise, ``phase={attempt: error}`` in some attempts."""

    def enter(phase: str, ctx: Ctx, told: str = "") -> None:
        log.append(phase + told)
        error = errors.get(phase)
        if isinstance(error, dict):
            error = error.get(ctx.attempt)
        if error is not None:
            raise error

    class Logged(ClassNode[Any, Any, Any]):
        async def prep(self, ctx: Ctx) -> Any:
            enter("prep", ctx)
            return f"prepared {ctx.input}"

        async def exec(self, prepared: Any, ctx: Ctx) -> Any:
            enter("exec", ctx)
            return f"made of {prepared}"

        async def post(self, made: Any, ctx: Ctx) -> Any:
            enter("post", ctx)
            return Result([made], action="go")

        async def fallback(self, error: Exception, ctx: Ctx) -> Any:
            enter("fallback", ctx)
            return f"instead of {error}"

        async def recover(self, error: Exception, ctx: Ctx) -> None:
            enter("recover", ctx, f":{error}")

    return Logged


async def run(cls: type[ClassNode[Any, Any, Any]], attempts: int = 1, **node: Any) -> RunResult:
    retry = Retry(attempts=attempts, delay=0.0)
    blueprint = Blueprint("b", (Node("a", "f", retry=retry, **node), Node("z", "z")), (Edge("a", "z", action="go"),))

    async def end(ctx: Ctx) -> None: ...

    return await FlowRuntime(registry={"f": cls, "z": end}).run(blueprint, "input")


async def test_the_phases_in_order() -> None:
    log: list[str] = []
    result = await run(lifecycle(log))
    assert log == ["prep", "exec", "post"]
    assert result.output("a") == ["made of prepared input"]
    assert result.nodes["z"] == "completed", "post chooses the action"


E = ValueError
FAILURES: list[tuple[dict[str, Any], int, str, str]] = [
    (
        {"exec": {1: E("1"), 2: E("2")}}, 3,
        "prep exec recover:1 prep exec recover:2 prep exec post", "made of prepared input",
    ),
    ({"exec": E("x")}, 2, "prep exec recover:x prep exec fallback post recover:x", "instead of x"),
    ({"exec": E("x"), "fallback": E("y")}, 1, "prep exec fallback recover:y", ""),
    ({"exec": E("x"), "post": E("z")}, 1, "prep exec fallback post recover:z", ""),
    ({"prep": E("p")}, 2, "prep recover:p prep recover:p", ""),
    ({"post": E("z")}, 1, "prep exec post recover:z", ""),
    ({"post": {1: E("z")}}, 2, "prep exec post recover:z prep exec post", "made of prepared input"),
    ({"exec": FatalError("f")}, 3, "prep exec recover:f", ""),
    ({"exec": FatalError("f")}, 1, "prep exec recover:f", ""),
    ({"exec": SerializationError("s")}, 3, "prep exec fallback post recover:s", "instead of s"),
]  # fmt: skip


@pytest.mark.parametrize(("errors", "attempts", "order", "output"), FAILURES)
async def test_failures(errors: dict[str, Any], attempts: int, order: str, output: str) -> None:
    log: list[str] = []
    result = await run(lifecycle(log, **errors), attempts)
    assert " ".join(log) == order
    if output:
        assert (result.status, result.output("a")) == ("completed", [output])
    else:
        assert result.status == "failed"


async def test_an_error_of_recover_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []
    result = await run(lifecycle(log, exec=E("x"), recover=E("r")))
    assert result.output("a") == ["instead of x"]
    assert "recover of node 'a' failed" in caplog.text
    assert "ValueError: r" in caplog.text


async def test_errors_that_never_retry_use_its_fallback_at_once() -> None:
    log: list[str] = []
    flow = Flow[Any]("flow")
    flow.node(id="a", uses="f", retries=Retry(attempts=5, delay=0.0), never_retry=[LookupError])(
        lifecycle(log, exec=KeyError("k"))
    )
    assert (await FlowRuntime([flow]).run(flow)).output() == ["instead of 'k'"]
    assert log == ["prep", "exec", "fallback", "post", "recover:'k'"]


async def test_its_own_fallback_comes_before_that_of_the_node() -> None:
    class Mends(ClassNode[Any, Any, Any]):
        async def exec(self, prepared: Any, ctx: Ctx) -> Any:
            raise ValueError("x")

        async def fallback(self, error: Exception, ctx: Ctx) -> Any:
            if ctx.params.get("mend"):
                return "mended"
            raise error

    async def rescue(ctx: Ctx) -> Any:
        return ctx.input["error"]["message"]

    nodes = Node("a", "f", params={"mend": True}, fallback="r"), Node("b", "f", fallback="r"), Node("r", "r")
    result = await FlowRuntime(registry={"f": Mends, "r": rescue}).run(Blueprint("b", nodes))
    assert (result.output("a"), result.output("b")) == ("mended", "x")


async def test_only_exec_is_needed() -> None:
    class Double(ClassNode[int, int, None]):
        async def exec(self, prepared: int, ctx: NodeContext[int, None]) -> int:
            return prepared * 2

    result = await FlowRuntime(registry={"f": Double}).run(Blueprint("b", (Node("a", "f"),)), 4)
    assert result.output() == 8

    class Fails(ClassNode[int, int, None]):
        async def exec(self, prepared: int, ctx: NodeContext[int, None]) -> int:
            raise ValueError("as it is")

    result = await FlowRuntime(registry={"f": Fails}).run(Blueprint("b", (Node("a", "f"),)), 4)
    assert str(result.errors[0]) == "a: ValueError: as it is"


async def test_each_attempt_has_an_instance_of_its_own() -> None:
    seen: list[int] = []

    class Counting(ClassNode[Any, Any, Any]):
        count = 0

        async def exec(self, prepared: Any, ctx: Ctx) -> Any:
            self.count += 1
            seen.append(self.count)
            if ctx.attempt < 3:
                raise ValueError

    await run(Counting, 3)
    assert seen == [1, 1, 1]


@pytest.mark.parametrize("how", ["timeout", "cancel"])
async def test_an_interruption_is_no_error_of_the_code(how: str) -> None:
    log: list[str] = []
    started = asyncio.Event()

    class Slow(ClassNode[Any, Any, Any]):
        async def exec(self, prepared: Any, ctx: Ctx) -> Any:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                log.append("finally")

        async def fallback(self, error: Exception, ctx: Ctx) -> Any:
            log.append("fallback")

        async def recover(self, error: Exception, ctx: Ctx) -> None:
            log.append("recover")

    if how == "timeout":
        assert (await run(Slow, timeout=0.005)).errors[0].errors[0].kind == "NodeTimedOut"
    else:
        running = asyncio.ensure_future(run(Slow))
        await started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert log == ["finally"]


# Types, from the arguments of the base class.


@dataclasses.dataclass
class Order:
    number: int


@dataclasses.dataclass
class Receipt:
    order: Order


class Pay(ClassNode[Order, Receipt, Any]):
    """Its exec makes something else than its output, and says nothing of types."""

    async def exec(self, prepared, ctx):  # type: ignore[no-untyped-def]
        assert type(prepared) is Order
        return prepared.number

    async def post(self, made: Any, ctx: NodeContext[Order, Any]) -> Receipt:
        return Receipt(Order(made))


class PayTwice(Pay):
    pass


class Passing(ClassNode[T, T, Any], Generic[T]):
    async def exec(self, prepared: Any, ctx: NodeContext[T, Any]) -> Any:
        return prepared


class OfOrders(Passing[Order]):
    async def exec(self, prepared: Any, ctx: NodeContext[Order, Any]) -> Order:
        return prepared  # type: ignore[no-any-return]


@pytest.mark.parametrize("cls", [Pay, PayTwice])
async def test_types_come_from_the_base(cls: type[ClassNode[Any, Any, Any]]) -> None:
    made = node_function("f", cls)
    assert (made.input_type, made.output_type) == (Order, Receipt)
    result = await FlowRuntime(registry={"f": cls}).run(Blueprint("b", (Node("a", "f"),)), {"number": 5})
    assert result.raise_for_failure().output() == Receipt(Order(5))


async def test_types_of_a_generic_class_come_from_exec() -> None:
    assert node_function("f", Passing).input_type is None
    assert node_function("f", OfOrders).input_type is Order
    result = await FlowRuntime(registry={"f": OfOrders}).run(Blueprint("b", (Node("a", "f"),)), {"number": 5})
    assert result.output() == Order(5)


class Configured(ClassNode[Any, Any, Any]):
    def __init__(self, size: int) -> None:
        self.size = size

    async def exec(self, prepared: Any, ctx: Ctx) -> Any: ...


class Empty(ClassNode[Any, Any, Any]):
    pass


@pytest.mark.parametrize(
    ("cls", "told"),
    [
        (Configured, "Configured, registered as 'f', must be made without arguments"),
        (Empty, "Empty, registered as 'f', has no exec of its own"),
        (ClassNode, "ClassNode, registered as 'f', has no exec of its own"),
        (Order, "Order is not a ClassNode, which a node's class must be"),
    ],
)
def test_classes_that_cannot_be_nodes(cls: Any, told: str) -> None:
    with pytest.raises(DefinitionError, match=told) as caught:
        FlowRuntime(registry={"f": cls})
    assert caught.value.subject == "f"
