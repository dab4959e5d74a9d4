"""A planted secret is found nowhere, either, where it comes by a signal, a webhook, a batch, a subflow or a command.

As in `test_secrets`: the second test shows that the search finds each one with a codec that hides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from flowcraft import FlowRuntime, JsonCodec, NodeContext, Result
from flowcraft.blueprint import Blueprint, Edge, Node
from flowcraft.claims import Claims
from flowcraft.codec import Codec
from flowcraft.errors import CommandRefused, FlowcraftError, RunConflict, ScheduleConflict, SignalConflict
from flowcraft.limit import Limit
from flowcraft.runs import RunHandle
from flowcraft.sqlite import SqliteAdapter
from flowcraft.values import FileValueStore
from flowcraft.webhooks import WebhookApp

from .leaping import reaches
from .test_secrets import Found, QuickClock, Scene, encrypting, everything_logged, look_at_logs, until, vars_of

httpx = pytest.importorskip("httpx", reason="calls the application as a client would")

__all__ = ["everything_logged"]  # a fixture

SPOTS = {
    "item", "item-result", "item-error", "item-log", "child-input", "child-output", "child-context", "child-log",
    "child-error", "signal", "signal-action", "early", "early-action", "webhook", "webhook-action", "patched", "marked",
    "marked-action", "booked", "undo-error", "scheduled", "dedup", "dedup-context", "rerun", "rerun-context", "limit",
    "log", "log-extra", "progress", "published", "poison", "late", "late-action",
}  # fmt: skip


def secret(spot: str) -> str:
    assert spot in SPOTS, spot
    return f"S3CRET-{spot}-TERC3S"


async def make_list(ctx: NodeContext[Any, Any]) -> list[Any]:
    ctx.log.warning("said %s", secret("log"), extra={"more": secret("log-extra")})
    ctx.progress(0.3, secret("progress"))
    return [{"word": secret("item"), "n": n} for n in range(3)]


async def work(ctx: NodeContext[Any, Any]) -> Any:
    assert ctx.input["word"] == secret("item")
    ctx.log.info(secret("item-log"))
    if ctx.input["n"] == 1:
        raise ValueError(secret("item-error"))
    return secret("item-result")


async def inside(ctx: NodeContext[Any, Any]) -> Any:
    assert ctx.input == {"word": secret("child-input")}
    ctx.log.info(secret("child-log"))
    await ctx.context.set("kept", secret("child-context"))
    return secret("child-output")


async def broken(ctx: NodeContext[Any, Any]) -> Any:
    raise RuntimeError(secret("child-error"))


async def word(ctx: NodeContext[Any, Any]) -> Any:
    return secret("child-input")


async def same(ctx: NodeContext[Any, Any]) -> Any:
    return ctx.input


async def book(ctx: NodeContext[Any, Any]) -> Any:
    return secret("booked")


async def unbook(ctx: NodeContext[Any, Any]) -> Any:
    assert ctx.input["output"] == secret("booked")
    raise RuntimeError(secret("undo-error"))


async def deaf(ctx: NodeContext[Any, Any]) -> Any:
    """Does not hear that it is cancelled, and returns after all."""
    ctx.progress(0.1)
    while not released["now"].is_set():
        try:
            await released["now"].wait()
        except asyncio.CancelledError:
            continue
    return Result(secret("late"), action=secret("late-action"))


#: Of the test that runs now: an event belongs to one loop.
released: dict[str, asyncio.Event] = {}
LIMIT = Limit("narrow", key="input", concurrency=1)
FLOWS = [
    Blueprint(
        "parts",
        (
            Node("list", "list"), Node("s_scatter", "batch-scatter", {
                "gatherNodeId": "s_gather", "workerUsesKey": "work", "onItemError": "collect"}),
            Node("s_gather", "batch-gather"), Node("word", "word"),
            Node("sub", "subflow", {"blueprintId": "child", "inputs": {"word": "word"}, "outputs": {"from": "kept"}}),
            Node("bad", "subflow", {"blueprintId": "bad"}, fallback="instead"), Node("instead", "same"),
        ),
        (Edge("list", "s_scatter"), Edge("s_scatter", "s_gather"), Edge("word", "sub")),
    ),
    Blueprint("child", (Node("inside", "inside"),)),
    Blueprint("bad", (Node("broken", "broken"),)),
    Blueprint(
        "meets",
        (Node("hook", "webhook"), Node("approval", "wait"), Node("ask", "wait"), Node("late", "wait"),
         Node("paid", "wait", {"eventName": "paid"}), Node("park", "nowhere"), Node("end", "same")),
        (Edge("hook", "approval"), Edge("ask", "late"), Edge("late", "end"), Edge("approval", "end")),
    ),
    Blueprint("saga", (Node("book", "book", compensate="unbook"), Node("unbook", "unbook"))),
    Blueprint("plain", (Node("same", "same"),)),
    Blueprint("limited", (Node("same", "same", limits=(LIMIT,)),)),
    Blueprint("poisoned", (Node("poison", "same"),)),
    Blueprint("deaf", (Node("deaf", "deaf"),)),
]  # fmt: skip
FUNCTIONS = {
    "list": make_list, "work": work, "inside": inside, "broken": broken, "word": word, "same": same, "book": book,
    "unbook": unbook, "deaf": deaf,
}  # fmt: skip


def adapter(folder: Path, codec: Codec) -> SqliteAdapter:
    runtime = FlowRuntime(blueprints=FLOWS, registry=FUNCTIONS, codec=codec, clock=QuickClock())
    values = FileValueStore(folder / "values")
    return SqliteAdapter(
        runtime, folder / "runs.db", values=values, offload_above=40, webhook_base_url="https://example.org"
    )


@asynccontextmanager
async def scene(folder: Path, codec: Codec) -> AsyncIterator[Scene]:
    async with adapter(folder, codec) as one, adapter(folder, codec) as two:
        made = Scene(folder, one, two, Found())
        assert two.events is not None
        async with two.events.subscribe() as heard:

            async def listen() -> None:
                async for event in heard:
                    made.told.append(event)

            task = asyncio.create_task(listen())
            try:
                yield made
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def refused(found: Found, kind: type[FlowcraftError], asked: Any) -> None:
    with pytest.raises(kind) as caught:
        await asked
    found.by_error("errors", caught.value)


async def signals(made: Scene) -> RunHandle:
    """A wait that is signalled, one before its time, one by event, one by webhook; and what is refused of it."""
    run = await made.adapter.start_run("meets", run_id="meets")
    assert await run.signal("late", secret("early"), action=secret("early-action")) == "early"
    made.look_at_files()
    assert await run.signal("ask", secret("signal"), action=secret("signal-action")) == "accepted"
    await refused(made.found, SignalConflict, run.signal("ask", secret("signal") + "?"))
    assert await run.publish("paid", secret("published")) == {"paid": "accepted"}
    await run.patch_context({"key": secret("patched")})
    await reaches(run, lambda view: (view.nodes["approval"].state, view.nodes["park"].state) == ("waiting", "parked"))
    hook = (await run.view()).nodes["hook"].output
    assert hook is not None
    stored = (await made.adapter.store.read_values("meets", [hook]))[hook]
    url = str(made.adapter.runtime.codec.decode(stored)["url"])  # type: ignore[index] # a webhook's output
    token = url.partition("token=")[2]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(WebhookApp(made.adapter))) as client:
        wrong = await client.post(url + "x", content=secret("webhook"))
        right = await client.post(f"{url}&action={secret('webhook-action')}", json={"word": secret("webhook")})
        other = await client.post(url, json={"word": secret("webhook") + "?"})
    assert (wrong.status_code, right.status_code, other.status_code) == (404, 200, 409)
    made.found.look("answers", wrong.content + right.content + other.content)
    assert await run.mark_completed("park", secret("marked"), secret("marked-action")) is True
    await refused(made.found, CommandRefused, run.mark_completed("nothing", secret("marked")))
    result = await run.result(timeout=600)
    assert result.status == "completed"
    assert result.output("end") == {"approval": {"word": secret("webhook")}, "late": secret("early")}
    for path in made.folder.rglob("*"):
        if path.is_file() and isinstance(made.adapter.runtime.codec, type(encrypting())):
            assert token.encode() not in path.read_bytes(), "the secret of a url is stored in no readable form"
    return run


async def commands(made: Scene) -> list[RunHandle]:
    app = made.adapter
    saga = await app.start_run("saga", run_id="saga")
    await saga.result(timeout=600)
    await saga.rollback()
    assert secret("undo-error") in str((await saga.result(timeout=600)).errors)
    again = await app.rerun(
        "plain-origin", "same", input=secret("rerun"), context={"k": secret("rerun-context")}, new_run_id="again"
    )
    other = app.rerun("plain-origin", "same", input=secret("rerun") + "?", new_run_id="again")
    await refused(made.found, RunConflict, other)
    assert (await again.result(timeout=600)).output() == secret("rerun")
    await app.schedules.create("nightly", "plain", every=3600.0, input=secret("scheduled"))
    clash = app.schedules.create("nightly", "plain", every=3600.0, input=secret("scheduled") + "?")
    await refused(made.found, ScheduleConflict, clash)
    fired = await app.schedules.trigger("nightly")
    assert (await fired.result(timeout=600)).output() == secret("scheduled")
    once = await app.start_run("plain", secret("dedup"), context={"k": secret("dedup-context")}, dedup_key="key")
    assert (await once.result(timeout=600)).output() == secret("dedup")
    limited = [await app.start_run("limited", secret("limit"), run_id=f"limited{n}") for n in range(4)]
    for run in limited:
        await run.result(timeout=600)
    late = await app.start_run("deaf", run_id="deaf")
    await until(lambda: any(event.run_id == "deaf" and event.type == "node:progress" for event in made.told))
    await late.cancel()
    released["now"].set()
    result = await late.result(timeout=600)
    assert (result.status, result.output("deaf")) == ("cancelled", secret("late"))
    return [saga, again, fired, once, late, *limited]


async def play(made: Scene) -> None:
    released["now"] = asyncio.Event()
    app = made.adapter
    poisoned = await app.start_run("poisoned", secret("poison"), run_id="poisoned")
    async with app.queue.deliveries([app.options.queue_name], prefetch=1) as batches:
        (delivery,) = await anext(batches)
        for number in range(5):
            await Claims(app.coordination, f"dead {number}", 30.0, app.runtime.clock).begun(delivery.job.visit_key)
        await delivery.retry()
    async with app.worker(concurrency=10, grace=0.0):
        await (await app.start_run("plain", 1, run_id="plain-origin")).result(timeout=600)
        parts = await app.start_run("parts", run_id="parts")
        told = await parts.result(timeout=600)
        assert (told.status, told.context["from"]) == ("completed", secret("child-context"))
        runs = [parts, poisoned, await signals(made), *await commands(made)]
        assert (await poisoned.result(timeout=600)).status == "failed"
        children = [app.run(row.run_id) for row in (await app.list()).items]
    made.look_at_files()
    for run in {run.run_id: run for run in [*runs, *children]}.values():
        made.found.look("events", [vars_of(event) for event in (await app.store.read_events(run.run_id)).items])
        stored = await app.store.load(run.run_id)
        assert stored is not None
        made.found.look("head", stored.head + stored.fingerprint.encode())
    made.found.look("events", [vars_of(event) for event in made.told])
    for kind in ("schedule", "dedup", "dead", "lease"):
        for row in (await app.store.list(kind=kind)).items:
            stored = await app.store.load(row.run_id, kind=kind)
            made.found.look("documents", [row, stored])
    letters = (await app.dead_letters.list()).items
    assert [letter.kind for letter in letters] == ["poisoned"]
    made.found.look("dead letters", letters)


async def test_a_planted_secret_is_found_nowhere(tmp_path: Path, everything_logged: Any) -> None:
    async with scene(tmp_path, encrypting()) as made:
        await play(made)
    made.look_at_files()
    hide_what_others_logged(everything_logged)
    look_at_logs(made.found, everything_logged)
    assert made.found.places == set()


async def test_the_search_finds_what_is_not_hidden(tmp_path: Path, everything_logged: Any) -> None:
    async with scene(tmp_path, JsonCodec()) as made:
        await play(made)
    look_at_logs(made.found, everything_logged)
    assert SPOTS - made.found.of("files") == {"log-extra"}, "which is not kept"
    assert {"log", "log-extra", "item-log", "child-log"} <= made.found.of("logs"), "that is what a log is for"


def hide_what_others_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What a node tells ``ctx.log`` goes to the application's logging: that is what it is for. And urls of callers."""
    caplog.records[:] = [r for r in caplog.records if r.name != "flowcraft.node" and not r.name.startswith("http")]
