"""What a type checker accepts of flows, and what it must refuse; checked by `hatch run types`, never executed.

A line that must not check carries the ignore comments of both checkers. If it starts to check, an unused ignore is
an error.
"""

from collections.abc import Awaitable, Callable
from typing import Any, assert_type

from flowcraft import ALL, ClassNode, Flow, FlowRuntime, NodeContext, Result, Retry, job


class Bank:
    async def pay(self, amount: float, *, key: str) -> str:
        return key


class Other: ...


class Order:
    number: int


class Receipt: ...


flow = Flow[Bank]("order", version="1", failure="fail-fast", timeout=60)


# Bare, and with options; a function stays what it is.


@flow.node
async def fetch(ctx: NodeContext[int, Bank]) -> Order:
    await ctx.deps.pay(1.5, key=ctx.idempotency_key)
    ctx.deps.steal()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    ctx.input + "x"  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
    return Order()


as_it_was: Callable[[NodeContext[int, Bank]], Awaitable[Order]] = fetch


@flow.node(
    after=fetch, id="pay", uses="bank.pay", version=2, params={"a": 1}, retries=Retry(attempts=5),
    never_retry=[KeyError], timeout=30, fallback="rescue", join="any", losers="run", queue="slow", priority=1,
)  # fmt: skip
async def charge(ctx: NodeContext[Order, Bank]) -> Result[Receipt]:
    return Result(Receipt(), action="paid")


@flow.node(after=charge, retries=3, join=2)
async def ship(ctx: NodeContext[Receipt, Bank]) -> None: ...


@flow.node(after="pay", inputs={"order": "fetch"}, join=ALL, fallback=ship)
async def audit(ctx: NodeContext[dict[str, Any], Bank]) -> bool:
    return True


@flow.node(after=[fetch, "pay", audit])
async def collect(ctx: NodeContext[dict[str, object], Bank]) -> int:
    return 1


# A node that does not care takes whatever comes.


@flow.node(after=charge)
async def careless(ctx: NodeContext[Any, Any]) -> None: ...


# The wrong input: the decorated function's parameter is not what the predecessor makes.


@flow.node(after=fetch)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def wrong_input(ctx: NodeContext[Receipt, Bank]) -> None: ...


@flow.node(after=charge)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def wrong_result(ctx: NodeContext[Order, Bank]) -> None: ...


@flow.node(after=charge)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def not_unwrapped(ctx: NodeContext[Result[Receipt], Bank]) -> None: ...


# The wrong dependencies, or none at all.


@flow.node  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def wrong_deps(ctx: NodeContext[int, Other]) -> None: ...


@flow.node()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def wrong_deps_too(ctx: NodeContext[int, Other]) -> None: ...


@flow.node(after=fetch)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def wrong_deps_after(ctx: NodeContext[Order, Other]) -> None: ...


@flow.node  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def no_context() -> None: ...


@flow.node  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def no_node(text: str) -> None: ...


# Blocking functions.


@flow.node
def blocking(ctx: NodeContext[int, Bank]) -> Order:
    return Order()


@flow.node(after=blocking)
def blocking_after(ctx: NodeContext[Order, Bank]) -> Result[Receipt]:
    return Result(Receipt())


@flow.node(after=blocking_after)
async def after_blocking(ctx: NodeContext[Receipt, Bank]) -> None: ...


@flow.node(after=blocking)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def wrong_blocking(ctx: NodeContext[Receipt, Bank]) -> None: ...


# Options that do not exist, or are of another type.

flow.node(after=fetch, retry=Retry())  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
flow.node(retries="3")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
flow.node(join="some")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
flow.node(after=5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
Flow[Bank]("x", failure="explode")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# Edges between functions fit; what a transform makes, or an id names, cannot be known.

flow.edge(fetch, charge, action="x", condition="result.output.number > 5")
flow.edge(charge, ship)
flow.edge(blocking, charge)
flow.edge(blocking_after, ship)
flow.edge("fetch", ship)
flow.edge(fetch, "ship")
flow.edge(fetch, ship, transform="input.receipt")
flow.edge(fetch, ship)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
flow.edge(charge, charge)  # type: ignore[misc]  # pyright: ignore[reportArgumentType, reportCallIssue]
flow.edge(blocking, ship)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
flow.edge(fetch)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
flow.edge(fetch, 5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


# Classes.


@flow.node
class Pay(ClassNode[Order, Receipt, Bank]):
    async def prep(self, ctx: NodeContext[Order, Bank]) -> int:
        return ctx.input.number

    async def exec(self, prepared: int, ctx: NodeContext[Order, Bank]) -> str:
        return await ctx.deps.pay(prepared, key="x")

    async def post(self, made: str, ctx: NodeContext[Order, Bank]) -> Receipt:
        return Receipt()


@flow.node(after=fetch, id="again")
class PayAgain(ClassNode[Order, Receipt, Bank]):
    async def exec(self, prepared: Order, ctx: NodeContext[Order, Bank]) -> int:
        return prepared.number

    async def post(self, made: int, ctx: NodeContext[Order, Bank]) -> Receipt | Result[Receipt]:
        return Result(Receipt(), action="again")


@flow.node(after=Pay)
async def after_class(ctx: NodeContext[Receipt, Bank]) -> None: ...


flow.edge(Pay, ship)
flow.edge(fetch, Pay)


class WrongPost(ClassNode[Order, Receipt, Bank]):
    async def post(self, made: Any, ctx: NodeContext[Order, Bank]) -> Order:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return Order()


class WrongContext(ClassNode[Order, Receipt, Bank]):
    async def exec(self, prepared: Any, ctx: NodeContext[Order, Other]) -> Any:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return None


class Blocking(ClassNode[Order, Receipt, Bank]):
    def exec(self, prepared: Any, ctx: NodeContext[Order, Bank]) -> int:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return 5


flow.node(Order)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue]
flow.node(after=fetch)(Order)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue]


# Results are typed by the node.


async def results(runtime: FlowRuntime) -> None:
    result = (await runtime.run(flow, 7)).raise_for_failure()
    assert_type(result.output(fetch), Order)
    assert_type(result.output(charge), Receipt)
    assert_type(result.output(ship), None)
    assert_type(result.output(blocking), Order)
    assert_type(result.output(blocking_after), Receipt)
    assert_type(result.output(Pay), Receipt)
    assert_type(result.output(PayAgain), Receipt)
    untyped: Order = result.output("fetch")
    whole: Order = result.output()
    wrong: Receipt = result.output(fetch)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    result.output(5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    result.status = "failed"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    _ = (untyped, whole, wrong)


async def runs(runtime: FlowRuntime) -> None:
    await runtime.run(flow.blueprint, 7, context={"a": 1}, run_id="r", concurrency=3)
    await runtime.run("order")
    await runtime.run(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await runtime.run(flow, context=[1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    runtime.run(flow)  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]


# A flow of one node keeps the node's dependencies, and its result the node's type.


async def one_node(runtime: FlowRuntime) -> None:
    assert_type(job(fetch), Flow[Bank])
    assert_type(job(Pay, retries=3, timeout=5), Flow[Bank])
    assert_type((await runtime.run(job(fetch), 7)).output(fetch), Order)
    job(fetch, retry=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    job(Order)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]


# A result without an action, or with one of another type.

Result(5)
Result(5, action=None)
Result(5, action=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type(Result(5).output, int)
