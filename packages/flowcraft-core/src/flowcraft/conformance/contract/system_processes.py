"""Whole systems: processes that freeze, die, leave, or know less than others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from flowcraft.blueprint import Edge, Node
from flowcraft.conformance.checks import Collection
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect
from flowcraft.conformance.faulty import At, Restorable
from flowcraft.conformance.making import job
from flowcraft.conformance.receiving import letters, publish_raw
from flowcraft.conformance.system.behaviour import Ctx, Host
from flowcraft.conformance.system.fleet import Fleet, fleet
from flowcraft.conformance.system.process import Setting
from flowcraft.conformance.system.story import blueprint
from flowcraft.runs import RunHandle

__all__ = ["checks"]

checks = Collection("system", "process")


def _any_of(*futures: asyncio.Future[Any]) -> Callable[[], bool]:
    return lambda: any(future.done() for future in futures)


def _more(crew: Fleet, executions: int) -> Callable[[], bool]:
    return lambda: crew.effects.of() > executions


_CHAIN = blueprint("chain", ["a", "b", "c"], ["a>b", "b>c"])


@checks.check("late-outcome", level=3, kills=("engine-no-fence",), timeout=30.0)
async def late_outcome(env: Env) -> None:
    """The outcome of a worker that froze changes nothing when it wakes up, after another one did its work and went on.

    P5, faults F18, F51: here it is the first visit of a cycle's node whose outcome comes while the second is executed.
    """
    flow = blueprint(
        "frozen", ["a:gated", "b:count", "c"],
        ["a>b", Edge("b", "a", condition="result.output < 3"), Edge("b", "c", condition="result.output >= 3")],
    )  # fmt: skip
    opened, paused = asyncio.Event(), asyncio.Event()

    async def gated(host: Host, ctx: Ctx) -> int:
        frozen = host.line is not None and host.line.name == "frozen"
        await (opened if ctx.visit == 2 else paused).wait()
        return 100 if frozen else (ctx.input if isinstance(ctx.input, int) else 0)

    async with fleet(env, flow) as crew:
        crew.behaviours["gated"] = gated
        client = await crew.client()
        frozen = await crew.process("frozen")
        run = await crew.start(client, flow, 1)
        await crew.until(lambda: crew.effects.of("a") == 1 or frozen.line.dead, "the first visit has begun")
        frozen.line.pause()
        paused.set()
        crew.effects.deaths.add("frozen")
        await crew.process("other")
        await crew.until(lambda: crew.effects.of("a", process="other") >= 1, "the other worker takes over")
        second = await crew.finish(_second_visit(crew, run))
        frozen.line.resume()
        await crew.pass_time(3)
        opened.set()
        result = await crew.result(run)
        equal(second, True, "the second visit had begun")
        equal((result.outputs["a"], result.outputs["c"]), (2, "c(3)"), "outputs: nothing of the frozen worker's 100")
        await crew.check(client)


async def _second_visit(crew: Fleet, run: RunHandle) -> bool:
    while not any(effect.key.visit == 2 and effect.key.node == "a" for effect in crew.effects.all):
        await crew.asleep(0.25)
        if await run.status() in ("completed", "failed"):
            return False
    return True


@checks.check("whole-fleet-dies", level=2, timeout=30.0)
async def whole_fleet_dies(env: Env) -> None:
    """After all workers were killed, and long after, new ones finish every run without anybody's help.

    P1, fault F20.
    """
    flow = blueprint(
        "wide", ["a", *(Node(f"n{n}", "nap", {"seconds": 0.5 * env.unit}) for n in range(5)), "z"],
        [edge for n in range(5) for edge in (f"a>n{n}", f"n{n}>z")],
    )  # fmt: skip
    async with fleet(env, flow) as crew:
        client = await crew.client()
        old = [await crew.process(name) for name in ("one", "two")]
        run = await crew.start(client, flow, 1)
        await crew.until(lambda: crew.effects.of() >= 3, "some nodes have begun")
        for process in old:
            crew.kill(process)
        await crew.pass_time(20)
        await crew.process("new")
        result = await crew.result(run)
        equal(result.status, "completed", "status of the run")
        equal(result.output("z"), "z(" + ",".join(f"n{n}(a(1))" for n in range(5)) + ")", "the join")
        await crew.check(client)


@checks.check("shutdown", level=3, timeout=30.0)
async def shutdown(env: Env) -> None:
    """A worker that is told to stop hands back what it does not finish: another one takes it at once, nothing fails.

    P3, fault F21: a deployment is no failure of a node, and does not wait for leases to run out.
    """
    flow = blueprint("slow", ["a", "b:gated", "c"], ["a>b", "b>c"])

    async def gated(host: Host, ctx: Ctx) -> str:
        if host.line is not None and host.line.name == "leaving":
            await asyncio.Event().wait()
        return f"{ctx.node_id}({ctx.input})"

    async with fleet(env, flow, lease_ttl=500 * env.unit, resend_after=500 * env.unit) as crew:
        crew.behaviours["gated"] = gated
        client = await crew.client()
        leaving = await crew.process("leaving")
        run = await crew.start(client, flow, 1)
        await crew.until(lambda: crew.effects.of("b") == 1, "the second node has begun")
        await crew.process("staying")
        crew.effects.deaths.add("leaving")  # it gives up what it has begun: that is the cause
        leaving.stop()
        result = await crew.result(run, within=100)
        equal((result.status, result.output("c")), ("completed", "c(b(a(1)))"), "what came of the run")
        equal(crew.effects.of("b"), 2, "executions of the node that was handed back")
        await crew.check(client)


@checks.check("poison", level=3, kills=("engine-poison-for-ever",), timeout=60.0)
async def poison(env: Env) -> None:
    """A node that kills each worker that executes it fails after five executions, is a dead letter, and kills no more.

    P1, fault F8: one bad input must not take down a fleet for ever. Replayed once it is mended, its run goes on.
    """
    flow = blueprint("poison", ["a", "b:killer", "c"], ["a>b", "b>c"])
    async with fleet(env, flow) as crew:
        client = await crew.client()
        run = await crew.start(client, flow, 1, run_id="poisoned")
        ended = asyncio.ensure_future(crew.ended(run))
        while not ended.done():
            expect(crew.effects.of("b") <= 5, f"{crew.effects.of('b')} workers were killed by one node")
            process = await crew.process()
            await crew.until(_any_of(process.line.died, ended), "a worker dies, or the run ends")
        result = ended.result()
        equal((result.status, result.nodes["b"]), ("failed", "failed"), "what came of the run")
        expect("Poisoned" in str(result.errors[0]), f"the failure tells it: {result.errors[0]}")
        equal(crew.effects.of("b"), 5, "executions that killed their worker")
        (letter,) = (await crew.finish(client.adapter.dead_letters.list())).items
        equal((letter.kind, letter.deaths), ("poisoned", 5), "the letter")
        crew.behaviours["killer"] = crew.behaviours["value"]
        await crew.finish(client.adapter.dead_letters.replay(letter.id))
        result = await crew.result(run)
        equal((result.status, result.output("c")), ("completed", "c(b(a(1)))"), "what came of it when it was mended")
        await crew.check(client)


@checks.check("versions", level=3, timeout=30.0)
async def versions(env: Env) -> None:
    """A run waits for a worker that has its functions, in their version; those that lack one neither fail nor drop it.

    P8, fault F55: old and new workers live side by side for as long as a deployment takes.
    """
    flow = blueprint("new", ["a", "b:later@2", "c"], ["a>b", "b>c"])
    async with fleet(env, flow) as crew:
        client = await crew.client()
        await crew.process("old", Setting(uses=("value",)))
        run = await crew.start(client, flow, 1)
        await crew.finish(crew.seen(run, "b", "parked"))
        await crew.pass_time(10)
        equal(await crew.finish(run.status()), "running", "status while nobody has the function")
        crew.behaviours["later@2"] = crew.behaviours["value"]
        await crew.process("new", Setting(uses=("value", "later@2")))
        result = await crew.result(run)
        equal((result.status, result.output("c")), ("completed", "c(b(a(1)))"), "what came of the run")
        equal(crew.effects.of("b", process="new"), 1, "executions by the worker that has the function")
        await crew.check(client)


@checks.check("moved", level=3, timeout=30.0)
async def moved(env: Env) -> None:
    """A run that is moved to another blueprint while it waits goes on there; what happened stays, and is not repeated.

    P2, P8. So a flow is mended for runs that are under way.
    """
    old = blueprint("flow", ["a", Node("w", "wait"), "b:gone"], ["a>w", "w>b"], version="1")
    new = blueprint("flow", ["a", Node("w", "wait"), "b", "c"], ["a>w", "w>b", "b>c"], version="2")
    async with fleet(env, old) as crew:
        client = await crew.client()
        await crew.process("worker")
        run = await crew.start(client, old, 1)
        await crew.finish(crew.seen(run, "w", "waiting"))
        equal(await crew.finish(client.adapter.migrate_run(run.run_id, new)), True, "whether the run was moved")
        equal(await crew.finish(client.adapter.migrate_run(run.run_id, new)), False, "whether it was moved again")
        await crew.finish(run.signal("w", "go", signal_id="s"))
        result = await crew.result(run)
        equal(result.output("c"), "c(b(go))", "the output of the new node")
        equal(crew.effects.of("a"), 1, "executions of the first node")
        await crew.check(client)


@checks.check("skewed-clocks", level=3, timeout=30.0)
async def skewed_clocks(env: Env) -> None:
    """Workers and clients whose clocks are wrong by an hour wake nothing early, and lose nothing.

    Fault F36: due times are of the store's clock.
    """
    unit = 2.0 if env.target.virtual_time else env.unit
    flow = blueprint("sleep", ["a", Node("s", "sleep", {"duration": 4000.0 * unit}), "b"], ["a>s", "s>b"])
    async with fleet(env, flow) as crew:
        client = await crew.process("client", Setting(worker=False, skew=3600.0))
        await crew.process("behind", Setting(skew=-3600.0))
        await crew.process("ahead", Setting(skew=3600.0))
        began = env.clock.monotonic()
        run = await crew.start(client, flow, 1)
        result = await crew.result(run, within=100)
        slept = env.clock.monotonic() - began
        expect(slept >= 3.9 * unit, f"a sleep of {4 * unit:g} s took {slept:g} s")
        equal(result.output("b"), "b(a(1))", "the output")
        await crew.check(client)


@checks.check("failover", level=2, requires=("!durable",), timeout=30.0)
async def failover(env: Env) -> None:
    """A store that lost its latest commits brings every run it still knows to its end; late workers do no harm.

    Faults F31, F73: effects may be repeated. Played where a store can be put back to what it held.
    """
    async with fleet(env, _CHAIN) as crew:
        client = await crew.client()
        await crew.process("one")
        for number in range(6):
            before = crew.effects.of()
            run = await crew.start(client, _CHAIN, number)
            await crew.until(_more(crew, before), "the run has begun")
            if isinstance(env.store, Restorable):
                state = env.store.snapshot()
                await crew.until(_more(crew, before + number % 3), "it went on")
                env.store.restore(state)
            result = await crew.result(run)
            equal(result.output("c"), f"c(b(a({number})))", "the output")


@checks.check("strangers", level=2, timeout=30.0)
async def strangers(env: Env) -> None:
    """Messages about runs, nodes, visits and activations that are not there, and undecodable ones, change nothing.

    Faults F9, F10: a message carries no authority. Workers go on, and what nobody can read is a dead letter.
    """
    async with fleet(env, _CHAIN) as crew:
        client = await crew.client()
        queue = crew.options.queue_name
        run = await crew.start(client, _CHAIN, 1, run_id="run")
        forged = [
            job("no such run", queue, node="a"), job("run", queue, node="no such node"), job("run", queue, node="c"),
            job("run", queue, node="a", nonce="forged"), job("run", queue, node="b", nonce=""),
        ]  # fmt: skip
        await env.queue.publish(forged)
        await publish_raw(env, queue, b"{} garbage")
        await crew.process("worker")
        result = await crew.result(run)
        equal(result.output("c"), "c(b(a(1)))", "the output")
        equal(crew.effects.of(), 3, "executions")
        await crew.finish(letters(env, 1))
        await crew.check(client, letters=1)


@checks.check("client-dies", level=2, timeout=30.0)
async def client_dies(env: Env) -> None:
    """A client that is killed while it starts a run leaves a whole run or none; the same start again makes it one.

    P1, faults F68, F69.
    """
    for number in range(1, 12):
        run_id = f"run {number}"
        async with fleet(env, _CHAIN) as crew:
            first = await crew.process("first", Setting(worker=False))
            first.line.plan = At(number, "die after")
            starting = asyncio.ensure_future(first.adapter.start_run(_CHAIN, 1, run_id=run_id))
            await crew.until(_any_of(starting, first.line.died), "the client has started the run, or died")
            client = await crew.client()
            run = await crew.start(client, _CHAIN, 1, run_id=run_id)
            await crew.process("worker")
            result = await crew.result(run)
            equal(result.output("c"), "c(b(a(1)))", "the output")
            equal(crew.effects.of("a"), 1, "executions of the first node")
            died = first.line.dead
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await crew.check(client)
        if not died:
            return
