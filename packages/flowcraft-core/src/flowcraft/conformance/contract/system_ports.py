"""Whole systems: ports that fail for long, in their own ways."""

from __future__ import annotations

from flowcraft.blueprint import Blueprint, Node
from flowcraft.conformance.checks import Collection
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect
from flowcraft.conformance.faulty import At, Call, Fault, Rates, either
from flowcraft.conformance.system.fleet import Fleet, fleet
from flowcraft.conformance.system.process import Setting
from flowcraft.conformance.system.stories import STORIES
from flowcraft.conformance.system.story import Story, blueprint

__all__ = ["checks"]

checks = Collection("system", "ports")

_CHAIN = blueprint("chain", ["a", "b", "c"], ["a>b", "b>c"])
_NAMED = {story.name: story for story in STORIES}


async def _all(crew: Fleet, stories: list[Story], *, repeat: int = 1) -> None:
    """Tell these stories at the same time, and check each."""
    client = crew.processes[0]
    runs = [
        (story, await crew.start(client, story.make(crew.unit)[0], story.input, context=dict(story.context)))
        for story in stories
        for _ in range(repeat)
    ]
    for story, run in runs:
        result = await crew.result(run)
        equal((story.name, result.status), (story.name, story.status), "status of the run")
        for node, expected in story.outputs.items():
            equal(result.outputs.get(node), expected, f"output of {node!r} of {story.name!r}")


def _some(*names: str) -> list[Story]:
    return [_NAMED[name] for name in names]


def _blueprints(env: Env, stories: list[Story]) -> list[Blueprint]:
    unit = env.unit / 5 if env.target.virtual_time else env.unit
    return [flow for story in stories for flow in story.make(unit)]


@checks.check("coordination-down", level=3, kills=("engine-lease-authorises",), timeout=30.0)
async def coordination_down(env: Env) -> None:
    """Runs go on and end the same, executing nothing twice, while coordination does not answer at all.

    P6, fault F35: a lease never authorises anything; without any, a message that comes once is executed once.
    """
    stories = _some("chain", "fan", "fallback", "loop")
    async with fleet(env, *_blueprints(env, stories)) as crew:
        client = await crew.client()
        await crew.process("one", Setting(concurrency=20))
        crew.weather.plan = Rates(env.rng, {"unavailable": 1.0}, lambda call: call.port == "coordination")
        await _all(crew, stories)
        await crew.check(client)
        expect(crew.weather.counts["unavailable"] > 0, "coordination was asked")


@checks.check("deaf", level=3, timeout=30.0)
async def deaf(env: Env) -> None:
    """Visits that nobody needs any more end also if every revocation of their leases is lost.

    P1, faults F48, F66: a run ends when nobody works on it, and its worker hears of it in the end.
    """
    stories = _some("any-join", "fail-fast", "early-exit")
    async with fleet(env, *_blueprints(env, stories)) as crew:
        client = await crew.client()

        def plan(call: Call) -> Fault | None:
            return "dropped" if (call.port, call.method) == ("coordination", "revoke") else None

        crew.weather.plan = plan
        for name in ("one", "two"):
            await crew.process(name)
        await _all(crew, stories)
        await crew.check(client)


@checks.check("ack-after-commit", level=2, requires=("visibility",), kills=("engine-acks-first",), timeout=30.0)
async def ack_after_commit(env: Env) -> None:
    """A message is acked after the commit of what came of it: if its worker dies before, it comes to another one.

    P7. Here nobody sends anything again, so a message that was acked too early is the end of its run.
    """
    visibility = (env.queue.capabilities.visibility or 0.0) / (env.unit / 5 if env.target.virtual_time else env.unit)
    async with fleet(env, _CHAIN, resend_after=1e6 * env.unit) as crew:
        client = await crew.client()
        plan = At(1, "die before", lambda call: (call.method, call.kind) == ("commit", "run"))
        first = await crew.process("first", Setting(bound=False), plan=plan)
        run = await crew.start(client, _CHAIN, 1)
        await env.queue.publish([])
        await crew.until(lambda: first.line.dead, "the worker dies before its first commit")
        await crew.process("second", Setting(bound=False))
        result = await crew.result(run, within=visibility + 40)
        equal(result.output("c"), "c(b(a(1)))", "the output")
        await crew.check(client)


@checks.check("send-after-commit", level=3, kills=("engine-sends-first",), timeout=30.0)
async def send_after_commit(env: Env) -> None:
    """A message is sent after the commit that it tells of: nobody looks at a head that does not know of it yet.

    Fault F16. Here commits are slow and nobody sends anything again: a message that came too early would be dropped.
    """
    flow = blueprint(
        "wide", ["a", "b", "c", "d", "e"], ["a>b", "a>c", "a>d", "b>e", "c>e", "d>e"],
    )  # fmt: skip
    async with fleet(env, flow, resend_after=1e6 * env.unit) as crew:
        client = await crew.client()

        def plan(call: Call) -> Fault | None:
            return "slow" if (call.method, call.kind) == ("commit", "run") else None

        await crew.process("slow", Setting(bound=False), plan=plan)
        run = await crew.start(client, flow, 1)
        await crew.until(lambda: crew.effects.of("a") == 1, "the first node has begun")
        await crew.process("quick", Setting(bound=False))
        result = await crew.result(run, within=200)
        equal(result.output("e"), "e(b(a(1)),c(a(1)),d(a(1)))", "the output")
        await crew.check(client)


@checks.check("conflicts", level=3, kills=("engine-conflict-executes-again",), timeout=30.0)
async def conflicts(env: Env) -> None:
    """Outcomes that meet a conflict are planned again, never executed again.

    P2, P3, fault F25. Here commits are slow, so those of two workers on one run meet.
    """
    flow = blueprint(
        "wide", ["a", *(f"n{n}" for n in range(8)), "z"],
        [edge for n in range(8) for edge in (f"a>n{n}", f"n{n}>z")],
    )  # fmt: skip
    async with fleet(env, flow) as crew:
        client = await crew.client()

        def plan(call: Call) -> Fault | None:
            return "slow" if (call.method, call.kind) == ("commit", "run") else None

        for name in ("one", "two", "three"):
            await crew.process(name, Setting(concurrency=2, bound=False), plan=plan)
        for number in range(3):
            result = await crew.result(await crew.start(client, flow, number))
            expected = f"z({','.join(f'n{n}(a({number}))' for n in range(8))})"
            equal(result.output("z"), expected, "the join")
        equal(crew.effects.repeated(), 0, "second executions")
        expect(crew.weather.conflicts > 0, "commits met")
        await crew.check(client)


@checks.check("acks-lost", level=2, timeout=30.0)
async def acks_lost(env: Env) -> None:
    """Runs execute nothing twice if every ack is lost, so that each message comes again after its run has gone on.

    P3, P7, fault F3.
    """
    stories = _some("chain", "fan", "loop")
    visibility = (env.queue.capabilities.visibility or 0.0) / (env.unit / 5 if env.target.virtual_time else env.unit)
    async with fleet(env, *_blueprints(env, stories)) as crew:
        client = await crew.client()
        crew.weather.plan = Rates(env.rng, {"dropped": 1.0}, lambda call: str(call) == "delivery.ack")
        for name in ("one", "two"):
            await crew.process(name, Setting(bound=False))
        await _all(crew, stories)
        await crew.pass_time(min(visibility, 60.0) + 2)
        equal(crew.effects.repeated(), 0, "second executions")
        expect(crew.weather.counts["dropped"] > 0, "acks were lost")
        await crew.check(client)


@checks.check("unconfirmed", level=2, timeout=30.0)
async def unconfirmed(env: Env) -> None:
    """Messages that the broker does not confirm, some of each batch, cost time and nothing else.

    P7, fault F27.
    """
    stories = _some("fan", "batch", "loop")
    async with fleet(env, *_blueprints(env, stories)) as crew:
        client = await crew.client()
        crew.weather.plan = Rates(env.rng, {"unconfirmed": 0.7}, lambda call: call.method == "publish")
        for name in ("one", "two"):
            await crew.process(name, Setting(bound=False))
        await _all(crew, stories)
        equal(crew.effects.repeated(), 0, "second executions")
        expect(crew.weather.counts["unconfirmed"] > 0, "some messages were not confirmed")
        await crew.check(client)


@checks.check("unavailable", level=2, timeout=30.0)
async def unavailable(env: Env) -> None:
    """A store, a queue and a bus that refuse a third of all calls delay runs; no node fails, no attempt is used up.

    P3, fault F33: trouble of the backend is never the user's.
    """
    stories = _some("chain", "fan", "conditions", "loop", "batch")
    async with fleet(env, *_blueprints(env, stories)) as crew:
        client = await crew.client()
        workers = [await crew.process(name) for name in ("one", "two")]
        for worker in workers:
            worker.line.plan = Rates(env.rng, {"unavailable": 0.33}, lambda call: call.port != "coordination")
        await _all(crew, stories)
        used = [effect.key for effect in crew.effects.all if effect.key.attempt > 1]
        equal(used, [], "attempts that were used up")
        await crew.check(client)


@checks.check("stale-index", level=2, timeout=30.0)
async def stale_index(env: Env) -> None:
    """An index that tells what was due a while ago wakes nothing twice and forgets nothing.

    Faults F37, F43, F45: what the ticker does is decided on the head.
    """
    stories = _some("sleep", "wait-timeout", "retry", "chain")
    async with fleet(env, *_blueprints(env, stories)) as crew:
        client = await crew.client()
        crew.weather.plan = Rates(env.rng, {"stale": 0.6}, lambda call: (call.method, call.kind) == ("due", "run"))
        crew.weather.messages.lose_first = True
        for name in ("one", "two", "three"):
            await crew.process(name)
        await _all(crew, stories)
        equal(crew.effects.repeated(), 0, "second executions")
        await crew.check(client)


def _disturbs(call: Call) -> bool:
    """A process that cannot even start is another story; and one whose leases are refused may work twice."""
    return call.method != "setup" and call.port != "coordination"


@checks.check("everything-at-once", level=3, timeout=60.0)
async def everything_at_once(env: Env) -> None:
    """All stories together come to the same while messages and answers are lost and workers die and are replaced.

    P1 to P7 at once: faults meet each other.
    """
    # Without nodes that read the context: an execution that the store fails in the middle of is repeated, rightly.
    chosen = ("chain", "fan", "at-least-join", "conditions", "fallback", "retry", "failure", "loop", "batch", "sleep")
    stories = _some(*chosen)
    async with fleet(env, *_blueprints(env, stories)) as crew:
        client = await crew.client()
        messages = crew.weather.messages
        messages.copies, messages.lose, messages.shuffle = 2, 0.2, True
        rates: dict[Fault, float] = {
            "unavailable": 0.03, "lost before": 0.03, "lost after": 0.03, "late": 0.03, "stale": 0.05,
        }  # fmt: skip
        for number in range(3):
            deadly = At(40 + 25 * number, "die after")
            plan = either(deadly, Rates(env.rng, rates, _disturbs))
            await crew.process(f"doomed {number}", plan=plan)
        await crew.process("survivor", Setting(concurrency=20), plan=Rates(env.rng, rates, _disturbs))
        await _all(crew, stories)
        expect(crew.effects.repeated() <= 3 * 10, "second executions are at most what the dead had in hand")
        await crew.check(client)


@checks.check("large-batch", level=3, timeout=60.0)
async def large_batch(env: Env) -> None:
    """A batch of 300 items is gathered in order, each executed once, whatever becomes of messages.

    P2, P4, fault F53.
    """
    flow = blueprint(
        "large",
        [Node("numbers", "numbers", {"count": 300}),
         Node("all_scatter", "batch-scatter", {"workerUsesKey": "value", "gatherNodeId": "all", "concurrency": 50}),
         Node("all", "batch-gather")],
        ["numbers>all_scatter", "all_scatter>all"],
    )  # fmt: skip
    async with fleet(env, flow) as crew:
        client = await crew.client()
        messages = crew.weather.messages
        messages.copies, messages.lose, messages.shuffle = 2, 0.1, True
        for name in ("one", "two"):
            await crew.process(name, Setting(concurrency=40))
        result = await crew.result(await crew.start(client, flow))
        equal(result.output("all"), [f"all:items({n})" for n in range(300)], "the list")
        equal(crew.effects.of("all:items"), 300, "executions of items")
        await crew.check(client)
