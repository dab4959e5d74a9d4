"""What people and services outside do to runs, one small story each."""

from __future__ import annotations

from typing import Final

from flowcraft.blueprint import Edge, Node
from flowcraft.conformance.expecting import equal, expect, raises
from flowcraft.conformance.system.fleet import Fleet
from flowcraft.conformance.system.process import Process
from flowcraft.conformance.system.story import Story, blueprint
from flowcraft.errors import CommandRefused, SignalConflict, TooLate
from flowcraft.runs import RunHandle

__all__ = ["STEERED"]


async def _signal(crew: Fleet, _: Process, run: RunHandle) -> None:
    await crew.seen(run, "w", "waiting")
    equal(await run.signal("w", {"by": "someone"}, signal_id="s1"), "accepted", "the first signal")
    equal(await run.signal("w", {"by": "someone"}, signal_id="s1"), "repeated", "the same signal again")
    with raises((SignalConflict, TooLate), "another signal for the visit"):
        await run.signal("w", "another", signal_id="s2")


_WAIT = Story(
    "wait", "a wait that a signal ends, once",
    lambda _: [blueprint("wait", ["a", Node("w", "wait"), "b"], ["a>w", "w>b"])],
    outputs={"w": {"by": "someone"}, "b": "b(someone)"}, executed={"b": 1}, steer=_signal,
)  # fmt: skip


async def _early(_: Fleet, __: Process, run: RunHandle) -> None:
    equal(await run.signal("w", "early", action="yes", signal_id="s1"), "early", "a signal before its wait")
    with raises(SignalConflict, "a second signal in the mailbox for the same visit"):
        await run.signal("w", "another", signal_id="s2")


_EARLY = Story(
    "early-signal", "a signal that comes before its wait has begun, with an action",
    lambda unit: [
        blueprint(
            "early", [Node("a", "nap", {"seconds": unit}), Node("w", "wait"), "b", "c"], ["a>w", "w>b?yes", "w>c?no"]
        )
    ],
    outputs={"w": "early", "b": "b(early)"}, nodes={"c": "skipped"}, executed={"b": 1}, steer=_early,
)  # fmt: skip


async def _webhook(crew: Fleet, client: Process, run: RunHandle) -> None:
    await crew.seen(run, "w", "waiting")
    told = await client.adapter.publish_event(f"webhook:{run.run_id}:hook", {"paid": True}, signal_id="s1")
    equal(dict(told), {"w": "accepted"}, "what the event ended")
    told = await client.adapter.publish_event(f"webhook:{run.run_id}:hook", {"paid": True}, signal_id="s1")
    equal(dict(told), {"w": "repeated"}, "the same event again")


_WEBHOOK = Story(
    "webhook", "a webhook's url and the wait that its call ends",
    lambda _: [blueprint("hook", [Node("hook", "webhook"), Node("w", "wait"), "b"], ["hook>w", "w>b"])],
    outputs={"w": {"paid": True}, "b": "b(True)"}, executed={"b": 1}, steer=_webhook,
    options={"webhook_base_url": "https://example.org"},
)  # fmt: skip


async def _cancel(crew: Fleet, _: Process, run: RunHandle) -> None:
    await crew.begun("deep")
    expect(await run.cancel("not wanted any more"), "the run was cancelled")
    expect(not await run.cancel("again"), "a second cancel changes nothing")


_CANCEL = Story(
    "cancel", "a cancelled run with a subflow that is executing, and a wait",
    lambda _: [
        blueprint(
            "parent", ["a", Node("sub", "subflow", {"blueprintId": "child"}), Node("w", "wait"), "b"],
            ["a>sub", "a>w", "sub>b"],
        ),
        blueprint("child", ["deep:hang", "never"], ["deep>never"]),
    ],
    status="cancelled", nodes={"b": "cancelled", "w": "cancelled"}, executed={"b": 0, "never": 0, "deep": 1},
    steer=_cancel,
)  # fmt: skip


async def _pause(crew: Fleet, _: Process, run: RunHandle) -> None:
    await crew.begun("a")
    expect(await run.pause(), "the run was paused")
    expect(not await run.pause(), "it is paused already")
    await crew.asleep(3.0)
    equal(crew.effects.of("b"), 0, "executions while the run is paused")
    equal(await run.status(), "paused", "the status of the run")
    expect(await run.resume(), "the run was resumed")


_PAUSE = Story(
    "pause", "a run that is paused while a node runs, and resumed",
    lambda unit: [blueprint("pause", [Node("a", "nap", {"seconds": unit}), "b", "c"], ["a>b", "b>c"])],
    outputs={"c": "c(b(a(1)))"}, executed={"b": 1, "c": 1}, steer=_pause,
)  # fmt: skip


async def _retry(crew: Fleet, _: Process, run: RunHandle) -> None:
    equal((await crew.ended(run)).status, "failed", "the run before it is mended")
    crew.behaviours["broken"] = crew.behaviours["value"]
    equal(await run.retry(), 2, "the number of the next epoch")
    with raises(CommandRefused, "retrying a run that goes on, or has completed"):
        await run.retry()


_RETRY = Story(
    "retry-epoch", "a failed run that is retried in a new epoch once its node is mended",
    lambda _: [blueprint("again", ["a", "b:broken", "c", "d"], ["a>b", "b>c", "a>d"])],
    outputs={"c": "c(b(a(1)))", "d": "d(a(1))"}, executed={"a": 1, "b": 2, "c": 1, "d": 1}, steer=_retry,
)  # fmt: skip


async def _rollback(crew: Fleet, _: Process, run: RunHandle) -> None:
    equal((await crew.ended(run)).status, "completed", "the run before it is undone")
    expect(await run.rollback(), "the run is rolled back")


_ROLLBACK = Story(
    "rollback", "a run that is rolled back, its nodes compensated",
    lambda _: [
        blueprint(
            "undo",
            [Node("a", "value", compensate="ua"), Node("b", "value", compensate="ub"), "c", "ua", "ub"], ["a>b", "b>c"],
        )
    ],
    status="cancelled", executed={"a": 1, "b": 1, "c": 1, "ua": 1, "ub": 1}, steer=_rollback,
)  # fmt: skip


async def _patch(crew: Fleet, _: Process, run: RunHandle) -> None:
    await crew.seen(run, "m", "waiting")
    await run.patch_context({"key": "patched", "more": [1, 2]}, delete=["given"])
    expect(await run.mark_completed("m", "marked"), "the wait was marked completed")
    expect(not await run.mark_completed("m", "again"), "it is completed already")


_PATCH = Story(
    "patch-and-mark", "a run whose context is patched, and a node of which is marked completed",
    lambda _: [blueprint("patch", ["a:write", Node("m", "wait"), "b:read"], ["a>m", "m>b"])],
    context={"given": "by the client"}, keys={"key": "patched", "more": [1, 2], "given": None},
    outputs={"m": "marked", "b": "b[patched,1,2]"}, executed={"a": 1, "b": 1}, steer=_patch,
)  # fmt: skip

_DEADLINE = Story(
    "deadline", "a run that is not over at its deadline",
    lambda unit: [blueprint("late", ["a", Node("w", "wait"), "b"], ["a>w", "w>b"], timeout=2 * unit)],
    status="failed", nodes={"b": "cancelled"}, executed={"b": 0},
)  # fmt: skip

_RACE = Story(
    "transform-and-inputs", "nodes that take their inputs from others, by name and by transform",
    lambda _: [
        blueprint(
            "inputs", ["a", "b", Node("c", "value", inputs={"x": "a", "y": "b"}), Node("d", "value", inputs="c")],
            ["a>b", "b>c", Edge("c", "d", transform="input")],
        )
    ],
    outputs={"c": "c(a(1),b(a(1)))", "d": "d(c(a(1),b(a(1))))"}, executed=dict.fromkeys("abcd", 1),
)  # fmt: skip

STEERED: Final = (_WAIT, _EARLY, _WEBHOOK, _CANCEL, _PAUSE, _RETRY, _ROLLBACK, _PATCH, _DEADLINE, _RACE)
