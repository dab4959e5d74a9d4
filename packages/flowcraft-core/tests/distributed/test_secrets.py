"""A planted secret is found nowhere: in no file, log record, event, dead letter or error, however a run ends.

The second half shows that the search would find it, at every single place, with a codec that hides nothing.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
import time
import traceback
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flowcraft import ClassNode, FlowRuntime, JsonCodec, NodeContext, Result, Retry
from flowcraft.blueprint import Blueprint, Edge, Node
from flowcraft.claims import Claims
from flowcraft.codec import Codec
from flowcraft.codecs import CompressingCodec, EncryptingCodec
from flowcraft.errors import FlowcraftError, KeyMissing, Misconfigured, RunConflict
from flowcraft.model import Event
from flowcraft.results import RunResult
from flowcraft.runs import RunHandle
from flowcraft.sealing import ENCRYPTED
from flowcraft.sqlite import SqliteAdapter
from flowcraft.values import FileValueStore

KEYS = {"new": b"n" * 32, "old": b"o" * 32}
PATTERN = re.compile(rb"S3CRET-([a-z-]+)-TERC3S")
SPOTS = {
    "input", "context", "written", "output", "list", "large", "action", "transform", "error", "cause", "frame", "exit",
    "path", "recover", "retry-inline", "retry-later", "fallback", "progress", "reason", "condition", "poison",
}  # fmt: skip


def secret(spot: str) -> str:
    assert spot in SPOTS
    return f"S3CRET-{spot}-TERC3S"


# ---- flows that hold a secret wherever there is room for one


async def give(ctx: NodeContext[Any, Any]) -> Any:
    ctx.progress(0.5, secret("progress"))
    assert ctx.input["word"] == secret("input")
    assert await ctx.context.get("given") == secret("context")
    await ctx.context.set("made", [secret("written")])
    return Result({"word": secret("output"), "n": 5}, action=secret("action"))


async def items(ctx: NodeContext[Any, Any]) -> Any:
    assert ctx.input == secret("transform"), "by the edge's transform, which the committer evaluates"
    return [{"item": n, "word": secret("list")} for n in range(3)]


async def large(ctx: NodeContext[Any, Any]) -> Any:
    return {"rows": [secret("large") + hashlib.sha256(bytes(n)).hexdigest() for n in range(600)]}


class Untidy(ClassNode[Any, Any, Any]):
    async def exec(self, prepared: Any, ctx: NodeContext[Any, Any]) -> Any:
        if ctx.attempt == 1:
            raise ValueError(secret("retry-inline"))
        return ctx.attempt

    async def recover(self, error: Exception, ctx: NodeContext[Any, Any]) -> None:
        raise RuntimeError(secret("recover"))


async def later(ctx: NodeContext[Any, Any]) -> Any:
    if ctx.attempt == 1:
        raise ValueError(secret("retry-later"))
    return ctx.attempt


async def fail(ctx: NodeContext[Any, Any]) -> Any:
    def inner(word: str) -> None:
        try:
            {}[secret("cause")]
        except KeyError as error:
            error.add_note(secret("frame"))
            raise RuntimeError(word) from error

    inner(secret("error"))


async def fail_again(ctx: NodeContext[Any, Any]) -> Any:
    assert ctx.input["error"]["message"] == secret("error")
    raise RuntimeError(secret("fallback"))


async def leave(ctx: NodeContext[Any, Any]) -> Any:
    raise SystemExit(secret("exit"))


async def unstorable(ctx: NodeContext[Any, Any]) -> Any:
    return {secret("path"): float("nan")}


async def unorderable(ctx: NodeContext[Any, Any]) -> Any:
    return secret("condition")


async def block(ctx: NodeContext[Any, Any]) -> Any:
    ctx.progress(0.1)
    await asyncio.Event().wait()


async def same(ctx: NodeContext[Any, Any]) -> Any:
    return ctx.input


QUICKLY, LATER = Retry(attempts=2, delay=0.0), Retry(attempts=2, delay=1.0, jitter=0.0)
FLOWS = [
    Blueprint(
        "succeeds",
        (Node("give", "give"), Node("items", "items"), Node("large", "large"), Node("untidy", "untidy", retry=QUICKLY),
         Node("later", "later", retry=LATER)),
        (Edge("give", "items", condition="result.output.word == 'S3CRET-output' + '-TERC3S'",
              transform="context.word"),
         Edge("give", "large"), Edge("large", "untidy"), Edge("items", "later")),
    ),
    Blueprint(
        "fails",
        (Node("fail", "fail", fallback="again"), Node("again", "fail_again"), Node("leave", "leave"),
         Node("unstorable", "unstorable"), Node("unorderable", "unorderable"), Node("never", "same")),
        (Edge("unorderable", "never", condition="int(result.output) > 3"),),
    ),
    Blueprint("blocks", (Node("block", "block"),)),
    Blueprint("poisoned", (Node("poison", "same"),)),
]  # fmt: skip
FUNCTIONS = {
    "give": give, "items": items, "large": large, "untidy": Untidy, "later": later, "fail": fail, "leave": leave,
    "fail_again": fail_again, "unstorable": unstorable, "unorderable": unorderable, "block": block, "same": same,
}  # fmt: skip


class QuickClock:
    """Twenty times as fast as others: threads and files are real, pauses are short."""

    rate = 20.0

    def time(self) -> float:
        return 1_700_000_000.0 + self.monotonic()

    def monotonic(self) -> float:
        return time.monotonic() * self.rate

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.rate)  # this is a clock: real pauses, made short


@dataclass
class Found:
    """Where a secret was found: (kind of place, spot)."""

    places: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    def look(self, kind: str, data: object) -> None:
        raw = data if isinstance(data, bytes) else repr(data).encode() + str(data).encode()
        self.places |= {(kind, spot.decode()) for spot in search(raw)}

    def by_error(self, kind: str, error: BaseException) -> None:
        self.look(kind, "".join(traceback.format_exception(error)) + repr(vars(error)) + repr(error.args))

    def of(self, kind: str) -> set[str]:
        return {spot for place, spot in self.places if place == kind}


def search(data: bytes, depth: int = 2) -> set[bytes]:
    """As it stands, in base64 at any offset, in hex, in UTF-16, and compressed."""
    found = set(PATTERN.findall(data)) | set(PATTERN.findall(data.replace(b"\0", b"")))
    if depth == 0:
        return found
    for run in re.findall(rb"[A-Za-z0-9+/_-]{32,}", data):
        for start in range(4):
            piece = run[start : start + (len(run) - start) // 4 * 4]
            found |= search(base64.b64decode(piece.replace(b"-", b"+").replace(b"_", b"/")), depth - 1)
    for run in re.findall(rb"(?:[0-9a-fA-F]{2}){20,}", data):
        found |= search(bytes.fromhex(run.decode()), depth - 1)
    for start in re.finditer(rb"x[\x01\x5e\x9c\xda]", data):
        with suppress(zlib.error):
            made = zlib.decompressobj().decompress(data[start.start() : start.start() + 4000], 1 << 16)
            found |= search(made, depth - 1)
    return found


@dataclass
class Scene:
    """One file, a worker, a second adapter that listens like another process, and all that was seen."""

    folder: Path
    adapter: SqliteAdapter
    other: SqliteAdapter
    found: Found
    told: list[Event] = field(default_factory=list[Event])
    results: dict[str, RunResult] = field(default_factory=dict[str, RunResult])

    def look_at_files(self) -> None:
        paths = [path for path in self.folder.rglob("*") if path.is_file()]
        assert any(path.name.endswith("-wal") and path.stat().st_size for path in paths) or self.adapter._open is None
        assert any(path.parent.parent.parent.name == "values" for path in paths), "a value was offloaded"
        for path in paths:
            self.found.look("files", path.read_bytes())
            self.found.look("files", str(path).encode())


def adapter(folder: Path, codec: Codec, **options: Any) -> SqliteAdapter:
    runtime = FlowRuntime(blueprints=FLOWS, registry=FUNCTIONS, codec=codec, clock=QuickClock())
    values = FileValueStore(folder / "values")
    return SqliteAdapter(runtime, folder / "runs.db", values=values, offload_above=20_000, **options)


@asynccontextmanager
async def scene(folder: Path, codec: Codec) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(adapter(folder, codec)) for _ in range(2)]
        made = Scene(folder, one, two, Found())
        assert two.events is not None
        heard = await stack.enter_async_context(two.events.subscribe())
        near = await stack.enter_async_context(one.events.subscribe()) if one.events is not None else heard

        async def listen(source: AsyncIterator[Event]) -> None:
            async for event in source:
                made.told.append(event)

        tasks = [asyncio.create_task(listen(heard)), asyncio.create_task(listen(near))]
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for comes from threads and another adapter
            await asyncio.sleep(0.01)  # between two looks


async def play(made: Scene) -> None:
    """Every way for a run to end, and all that is left behind of it."""
    app = made.adapter
    poisoned = await app.start_run("poisoned", secret("poison"), run_id="poisoned")
    await die_often(app)
    start: dict[str, Any] = {"input": {"word": secret("input")}, "context": {"given": secret("context"),
                             "word": secret("transform")}}  # fmt: skip
    async with app.worker(concurrency=10, grace=0.0):
        runs = {
            "succeeds": await app.start_run("succeeds", run_id="succeeds", **start),
            "fails": await app.start_run("fails", run_id="fails", **start),
            "cancelled": await app.start_run("blocks", run_id="cancelled", **start),
            "poisoned": poisoned,
        }
        await until(lambda: begun(made, "cancelled"))
        await runs["cancelled"].cancel(secret("reason"))
        for name, run in runs.items():
            made.results[name] = await run.result(timeout=600)
        await until(lambda: heard_by_both(made))
        again = await app.start_run("succeeds", run_id="succeeds", **start)
        assert again.run_id == "succeeds"
        with pytest.raises(RunConflict) as caught:
            await app.start_run("succeeds", {"word": secret("input") + "?"}, run_id="succeeds")
        made.found.by_error("errors", caught.value)
    made.look_at_files()
    for name in runs:
        made.found.look("events", [vars_of(event) for event in (await app.store.read_events(name)).items])
        stored = await app.store.load(name)
        assert stored is not None
        made.found.look("head", stored.head + stored.fingerprint.encode())
    made.found.look("events", [vars_of(event) for event in made.told])
    made.found.look("dead letters", await app.queue.dead_letters())  # type: ignore[attr-defined] # of this backend
    made.found.look("dead letters", await app.store.list(kind="dead"))


async def die_often(app: SqliteAdapter) -> None:
    """Five workers took the visit, and were never heard of again; the sixth message says that it came before."""
    async with app.queue.deliveries([app.options.queue_name], prefetch=1) as batches:
        (delivery,) = await anext(batches)
        for number in range(5):
            await Claims(app.coordination, f"dead {number}", 30.0, app.runtime.clock).begun(delivery.job.visit_key)
        await delivery.retry()


def begun(made: Scene, run_id: str) -> bool:
    return any(event.run_id == run_id and event.type == "node:progress" for event in made.told)


def heard_by_both(made: Scene) -> bool:
    """The listener of the other adapter hears through the file: then hints were written into it, too."""
    return sum(event.type == "node:progress" and event.run_id == "succeeds" for event in made.told) == 2


def vars_of(event: Event) -> object:
    return (event.type, event.node, dict(event.data))


def look_at_logs(found: Found, caplog: pytest.LogCaptureFixture) -> None:
    formatter = logging.Formatter("%(name)s %(message)s")
    for record in caplog.records:
        found.look("logs", formatter.format(record) + repr(vars(record)))


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    for name in ("flowcraft", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


def encrypting(keys: dict[str, bytes] = KEYS) -> Codec:
    return EncryptingCodec(CompressingCodec(JsonCodec()), keys=keys)


def check_endings(results: dict[str, RunResult]) -> None:
    statuses = {name: result.status for name, result in results.items()}
    assert statuses == {"succeeds": "completed", "fails": "failed", "cancelled": "cancelled", "poisoned": "failed"}
    texts = str(results["fails"].errors) + str(results["poisoned"].errors)
    for spot in ("error", "cause", "frame", "fallback", "exit", "path", "condition"):
        assert secret(spot) in texts, f"{spot} was not planted"
    assert "Poisoned" in texts
    assert results["cancelled"].cause == secret("reason")
    assert results["succeeds"].context["made"] == [secret("written")]
    assert results["succeeds"].output("give")["word"] == secret("output")
    assert results["succeeds"].output("later") == 2


async def test_a_planted_secret_is_found_nowhere(tmp_path: Path, everything_logged: Any) -> None:
    async with scene(tmp_path, encrypting()) as made:
        await play(made)
        check_endings(made.results)
        await ask_without_the_key(made)
    made.look_at_files()
    look_at_logs(made.found, everything_logged)
    assert any(record.levelno == logging.ERROR for record in everything_logged.records), "recover, and poison"
    assert made.found.places == set()


@pytest.mark.parametrize("codec", [JsonCodec(), CompressingCodec(JsonCodec(), above=100)], ids=["plain", "compressed"])
async def test_the_search_finds_what_is_not_hidden(tmp_path: Path, everything_logged: Any, codec: Codec) -> None:
    async with scene(tmp_path, codec) as made:
        await play(made)
        check_endings(made.results)
    look_at_logs(made.found, everything_logged)
    found = made.found
    missed = SPOTS - found.of("files")
    assert missed == set()
    assert found.of("logs") == {"recover", "retry-inline"}, "by a traceback, with what it was raised from"
    told = {"error", "exit", "path", "retry-inline", "retry-later", "fallback", "progress", "reason", "action"}
    assert told <= found.of("events")
    assert found.of("head") == {"reason"}


async def ask_without_the_key(made: Scene) -> None:
    """Clients with another key, with the right key's name but not the key, and with no codec at all."""
    wrong = {"new": b"w" * 32}
    for codec in (encrypting({"other": b"x" * 32}), encrypting(wrong), JsonCodec()):
        async with adapter(made.folder, codec) as client:
            for name in made.results:
                run = client.run(name)
                for ask in (run.result, client.store.ping, lambda name=name: client.start_run("fails", 1, run_id=name)):
                    try:
                        made.found.look("answers", await ask())
                    except FlowcraftError as error:
                        made.found.by_error("errors", error)
                view = await run.view()
                assert view.status == made.results[name].status, "what is no secret can be read"
                assert view.cause in ("", ENCRYPTED)
                made.found.look("answers", [view, *view.nodes.values()])
                events = [*await run.history(), *[event async for event in run.watch()]]
                made.found.look("answers", [vars_of(event) for event in events])
                assert "$fc:sealed" not in repr(events)
            with pytest.raises(Misconfigured) as caught:
                await client.run("succeeds").result()
            assert isinstance(codec, JsonCodec) or isinstance(caught.value, KeyMissing)


async def test_with_the_key_everything_can_be_read_again(tmp_path: Path) -> None:
    async with scene(tmp_path, encrypting()) as made:
        watched: list[Event] = []

        async def watch(run: RunHandle) -> None:
            watched.extend([event async for event in run.watch()])

        async with made.other.worker(concurrency=5):
            start = {"word": secret("input")}, {"given": secret("context"), "word": secret("transform")}
            run = await made.adapter.start_run("succeeds", start[0], context=start[1])
            await watch(run)
            failed = await made.adapter.start_run("fails")
            await failed.result(timeout=600)
            blocked = await made.adapter.start_run("blocks", run_id="blocked")
            await until(lambda: begun(made, "blocked"))
            await blocked.cancel(secret("reason"))
            assert (await blocked.result(timeout=600)).cause == secret("reason")
        data = {event.type: dict(event.data) for event in watched}
        assert data["node:progress"] == {"share": 0.5, "text": secret("progress")}
        assert secret("retry-later") in str(data["node:retrying"]["error"])
        completed = next(event for event in watched if event.type == "node:completed" and event.node == "give")
        assert {name: completed.data[name] for name in ("action", "by")} == {"action": secret("action"), "by": "give"}
        errors = {
            event.node: event.data.get("error") for event in await failed.history() if event.type == "node:failed"
        }
        assert errors["fail"] == f"RuntimeError: {secret('fallback')}"
        assert (await blocked.view()).cause == secret("reason")
        reasons = [event.data for event in await blocked.history() if event.type == "run:cancelling"]
        assert reasons == [{"reason": secret("reason")}]


# ---- starts and workers while keys are rotated


async def test_a_start_is_recognised_with_encryption_and_after_a_rotation(tmp_path: Path) -> None:
    old, both, new = {"old": KEYS["old"]}, KEYS, {"new": KEYS["new"]}

    async def start(keys: dict[str, bytes], run_id: str, value: object, **context: object) -> RunHandle:
        async with adapter(tmp_path, encrypting(keys)) as client:
            return await client.start_run("blocks", value, run_id=run_id, context=context)

    await start(old, "r", {"a": 1, "b": [1, {"x": 1, "y": 2}]}, k={"p": 1, "q": 2}, j=1)
    for keys in (old, both, {"old": KEYS["old"], "new": KEYS["new"]}):
        await start(keys, "r", {"b": [1, {"y": 2, "x": 1}], "a": 1}, j=1, k={"q": 2, "p": 1})
        for other in ({"a": 1}, {"a": 1, "b": [1, {"x": 1, "y": 2.0}]}):
            with pytest.raises(RunConflict):
                await start(keys, "r", other, k={"p": 1, "q": 2}, j=1)
        with pytest.raises(RunConflict):
            await start(keys, "r", {"a": 1, "b": [1, {"x": 1, "y": 2}]}, k={"p": 1}, j=1)
    with pytest.raises(KeyMissing, match="'old'"):
        await start(new, "r", {"a": 1, "b": [1, {"x": 1, "y": 2}]}, k={"p": 1, "q": 2}, j=1)
    await start(both, "s", 1)
    await start(new, "s", 1)


async def test_a_worker_without_the_key_leaves_the_visit_to_one_that_has_it(tmp_path: Path) -> None:
    """In the middle of a rotation that was done in the wrong order: late, but nothing fails."""
    options = {"lease_ttl": 2.0}
    async with (
        adapter(tmp_path, encrypting({"old": KEYS["old"]}), **options) as behind,
        adapter(tmp_path, encrypting(KEYS), **options) as ahead,
    ):
        run = await ahead.start_run("poisoned", secret("poison"))
        handed_back = asyncio.Event()

        class Watching(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if "handed back" in record.getMessage():
                    handed_back.set()

        handler = Watching()
        logger = logging.getLogger("flowcraft.worker")
        logger.addHandler(handler)
        try:
            async with behind.worker(), asyncio.timeout(30):
                await handed_back.wait()
        finally:
            logger.removeHandler(handler)
        assert await run.status() == "running"
        async with ahead.worker():
            result = await run.result(timeout=600)
        assert result.raise_for_failure().output() == secret("poison")
        assert [event.type for event in await run.history()].count("node:failed") == 0
