"""Whole systems: how runs begin and end, what is kept of them, and how many work at a time."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from flowcraft.blueprint import Blueprint, Node
from flowcraft.conformance.checks import Collection
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect, raises
from flowcraft.conformance.faulty import At, Rates, writes
from flowcraft.conformance.system.behaviour import Ctx, Host
from flowcraft.conformance.system.fleet import fleet
from flowcraft.conformance.system.process import Setting
from flowcraft.conformance.system.story import blueprint
from flowcraft.errors import RunConflict
from flowcraft.limit import Limit
from flowcraft.model import TERMINAL

__all__ = ["checks"]

checks = Collection("system", "runs")

_CHAIN = blueprint("chain", ["a", "b", "c"], ["a>b", "b>c"])
_HOSTILE = "a'b\"c/{d};--\n\tключ %s é 𝕏 \\ :*?"


def _wide(width: int, node: Node) -> Blueprint:
    nodes = [Node(f"n{n}", node.uses, node.params, limits=node.limits) for n in range(width)]
    return blueprint("wide", ["a", *nodes, "z"], [edge for n in nodes for edge in (f"a>{n.id}", f"{n.id}>z")])


@checks.check("same-id", level=3, timeout=30.0)
async def same_id(env: Env) -> None:
    """Any number of starts of one id with one input, from several clients, make one run; another input is refused.

    P3, fault F68: a client that got no answer starts again.
    """
    async with fleet(env, _CHAIN) as crew:
        clients = [await crew.client() for _ in range(3)]
        await crew.process("worker")
        starts = [clients[n % 3].adapter.start_run(_CHAIN, 1, run_id="one") for n in range(9)]
        runs = await crew.finish(asyncio.gather(*starts))
        equal({run.run_id for run in runs}, {"one"}, "the runs")
        equal((await crew.result(runs[0])).output("c"), "c(b(a(1)))", "the output")
        with raises(RunConflict, "the same id with another input"):
            await crew.start(clients[0], _CHAIN, 2, run_id="one")
        equal(crew.effects.of(), 3, "executions")
        await crew.check(clients[0])


@checks.check("dedup-key", level=3, timeout=30.0)
async def dedup_key(env: Env) -> None:
    """Of starts with one dedup key, from several clients at once, with answers lost, one run comes to be.

    Faults F23, F68: the key is a document, which coordination cannot forget.
    """
    async with fleet(env, _CHAIN) as crew:
        clients = [await crew.client() for _ in range(3)]
        for client in clients:
            client.line.plan = Rates(env.rng, {"lost after": 0.2, "lost before": 0.2}, writes)
        await crew.process("worker")
        starts = [clients[n % 3].adapter.start_run(_CHAIN, n, dedup_key="order 7") for n in range(6)]
        runs = await crew.finish(asyncio.gather(*starts))
        equal(len({run.run_id for run in runs}), 1, "different runs")
        await crew.result(runs[0])
        crew.weather.flush()
        again = await crew.start(clients[0], _CHAIN, 9, dedup_key="order 7")
        equal(again.run_id, runs[0].run_id, "the run of the key, after coordination forgot everything")
        equal(crew.effects.of(), 3, "executions")
        await crew.check(clients[0])


@checks.check("hostile-names", timeout=30.0)
async def hostile_names(env: Env) -> None:
    """Runs, nodes and context keys of any script, with quotes, slashes and line breaks, are only data.

    Nobody's name may become code, or meet another's.
    """
    flow = Blueprint("flow " + _HOSTILE, (Node(_HOSTILE, "write"), Node("b", "read"), Node("é", "value")),
                     tuple(blueprint("x", ["b", "é"], ["b>é"]).edges))  # fmt: skip
    async with fleet(env, flow) as crew:
        client = await crew.client()
        await crew.process("worker")
        names = [_HOSTILE, _HOSTILE.upper(), "run", "run ", "é", "e\u0301", "x" * 200]
        runs = [await crew.start(client, flow, n, run_id=name, context={name: n}) for n, name in enumerate(names)]
        for number, (name, run) in enumerate(zip(names, runs, strict=True)):
            result = await crew.result(run)
            equal(result.outputs[_HOSTILE], f"{_HOSTILE}({number})", "the output of a node with a hostile name")
            equal(result.context[name], number, "the context key with a hostile name")
        await crew.check(client)


@checks.check("big-values", level=2, timeout=30.0)
async def big_values(env: Env) -> None:
    """An output of half a megabyte passes; one beyond the store's limit fails its own node, and its fallback stands in.

    P1, faults F28, F29: what can never be stored must not be tried for ever.
    """
    nodes: list[Node | str] = [
        Node("a", "big", {"size": 500_000}), Node("b", "big", {"size": 30_000_000}, fallback="f"), "f", "c",
    ]  # fmt: skip
    flow = blueprint("big", nodes, ["a>b", "b>c"])
    limited = env.store.capabilities.max_value_bytes is not None
    async with fleet(env, flow) as crew:
        client = await crew.client()
        await crew.process("worker")
        if not limited:
            return
        result = await crew.result(await crew.start(client, flow))
        equal(result.status, "completed", "status of the run")
        equal(len(str(result.output("a"))), 500_000, "length of the output")
        equal(result.output("f"), "f(PayloadTooLarge!)", "what the fallback was told")
        await crew.check(client)


@checks.check("limits", level=4, timeout=30.0)
async def limits(env: Env) -> None:
    """Never more visits run at a time, in all workers together, than their limit allows; and all of them come to run.

    Also when a worker dies with what it was allowed.
    """
    unit = env.unit / 5 if env.target.virtual_time else env.unit
    node = Node("n", "counted", {"seconds": unit}, limits=(Limit("few", concurrency=2),))
    flow = _wide(8, node)
    at_work: dict[str, set[str]] = {}
    most = 0

    async def counted(host: Host, ctx: Ctx) -> str:
        nonlocal most
        mine = at_work.setdefault(host.line.name if host.line else "", set())
        mine.add(ctx.node_id)
        alive = [p.name for p in crew.processes if not p.line.dead]
        most = max(most, sum(len(at_work.get(name, ())) for name in alive))
        await host.clock.sleep(float(ctx.params["seconds"]))
        mine.discard(ctx.node_id)
        return ctx.node_id

    async with fleet(env, flow) as crew:
        crew.behaviours["counted"] = counted
        client = await crew.client()
        doomed = await crew.process("doomed")
        await crew.process("other")
        run = await crew.start(client, flow, 1)
        await crew.until(lambda: crew.effects.of() > 3 or doomed.line.dead, "some nodes have begun")
        crew.kill(doomed)
        result = await crew.result(run)
        equal(result.status, "completed", "status of the run")
        expect(most == 2, f"at most {most} visits ran at a time, 2 are allowed")
        await crew.check(client)


@checks.check("urgent-first", level=4, requires=("priorities",), timeout=30.0)
async def urgent_first(env: Env) -> None:
    """A worker that comes late executes urgent nodes before those that waited longer.

    So an urgent run overtakes a backlog.
    """
    flows = [Blueprint(name, (Node("n", "value", priority=p),)) for name, p in (("low", 0), ("high", 5))]
    async with fleet(env, *flows) as crew:
        client = await crew.client()
        for number in range(4):
            await crew.start(client, flows[0], number, run_id=f"low {number}")
        urgent = [await crew.start(client, flows[1], number, run_id=f"high {number}") for number in range(2)]
        await crew.process("worker", Setting(concurrency=1))
        for run in urgent:
            await crew.result(run)
        first = [effect.key.run_id for effect in crew.effects.all[:2]]
        equal(sorted(first), ["high 0", "high 1"], "what was executed first")
        await crew.until(lambda: crew.effects.of() == 6, "the others are executed, too")


@checks.check("schedule", level=3, timeout=30.0)
async def schedule(env: Env) -> None:
    """A schedule fires once for each of its times, with any number of tickers, and though one of them dies as it fires.

    Faults F37, F43: a run's id is made of its schedule and time.
    """
    flow = Blueprint("report", (Node("n", "value"),))
    every = max(1.0, env.unit)
    async with fleet(env, flow) as crew:
        client = await crew.client()
        # It dies between the run that it starts and the schedule that it moves on.
        deadly = At(1, "die after", lambda call: (call.method, call.kind) == ("create", "run"))
        doomed = await crew.process("doomed", plan=deadly)
        for name in ("one", "two"):
            await crew.process(name)
        await crew.finish(client.adapter.schedules.create("tick", flow, every=every, input=1))
        await crew.until(lambda: crew.effects.of() >= 4, "it fired four times", within=400 + 10 * every / crew.unit)
        await crew.finish(client.adapter.schedules.delete("tick"))
        await crew.pass_time(5 + 2 * every / crew.unit)
        rows = (await crew.finish(client.adapter.list(limit=1000))).items
        started = sorted(row.created_at for row in rows)
        equal(crew.effects.of(), len(rows) + crew.effects.repeated(), "executions, against runs")
        close = [b - a for a, b in pairwise(started) if b - a < every / 4]
        equal(close, [], "seconds between runs that were started for one time")
        if doomed.line.dead:
            expect(deadly.struck is not None, "it died of what was planned")
        await crew.check(client)


@checks.check("retention", level=2, timeout=30.0)
async def retention(env: Env) -> None:
    """When the retention time of a run and of its subflows is over, nothing of them is left, for good.

    Faults F72, I10: storage that only grows ends every service.
    """
    flow = blueprint(
        "parent", ["a:write", Node("sub", "subflow", {"blueprintId": "child"}), "b"], ["a>sub", "sub>b"]
    )  # fmt: skip
    child = blueprint("child", ["c", Node("d", "big", {"size": 5000})], ["c>d"])
    unit = env.unit / 5 if env.target.virtual_time else env.unit
    async with fleet(env, flow, child, retention=4 * unit) as crew:
        client = await crew.client()
        await crew.process("worker")
        runs = [await crew.start(client, flow, n, context={"given": "x" * 1000}) for n in range(2)]
        for run in runs:
            await crew.result(run)
        ids = [row.run_id for row in (await crew.finish(client.adapter.list(limit=100))).items]
        equal(len(ids), 4, "runs and runs of subflows")
        crew.weather.messages.lose_first = False

        async def gone() -> None:
            while (await client.adapter.list(limit=100)).items:
                await env.clock.sleep(unit)

        await crew.finish(gone())
        for run_id in ids:
            equal(await env.store.load(run_id), None, "the document of a run")
            for space in ("context", "output", "log"):
                found = await env.store.read_values(run_id, space=space)
                equal(dict(found), {}, f"values of a run, space {space}")
            equal(list((await env.store.read_events(run_id)).items), [], "events of a run")


@checks.check("history", level=4, requires=("history",), timeout=30.0)
async def history(env: Env) -> None:
    """The history of a run that met trouble is without gaps, and the run is rebuilt from it as it was after any commit.

    P2: a state never goes back, and the last one is the run as it is stored.
    """
    flow = blueprint("wide", ["a", "b", "c:flaky", "d"], ["a>b", "a>c", "b>d", "c>d"])
    async with fleet(env, flow) as crew:
        client = await crew.client()
        await crew.process("first", plan=At(20, "die after"))
        await crew.process("second", plan=Rates(env.rng, {"lost after": 0.2, "late": 0.1}, writes))
        run = await crew.start(client, flow, 1)
        result = await crew.result(run)
        events = await crew.finish(run.history())
        equal([event.seq for event in events], list(range(1, len(events) + 1)), "numbers of events")
        settled: dict[str, str] = {}
        for event in events:
            view = await crew.finish(run.state_at(event.seq))
            for node, before in settled.items():
                equal(view.nodes[node].state, before, f"state of {node!r}, which was settled, after event {event.seq}")
            settled.update(
                {name: node.state for name, node in view.nodes.items() if node.state in ("completed", "failed")}
            )  # fmt: skip
        last = await crew.finish(run.state_at(len(events)))
        equal(last.status in TERMINAL and last.status, result.status, "the last state")
        equal({name: node.state for name, node in last.nodes.items()}, dict(result.nodes), "nodes in the last state")
        await crew.check(client)
