"""Webhooks: endpoints, which wait they resume, and every answer of the application over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from flowcraft.adapter import Adapter
from flowcraft.blueprint import Blueprint, Edge, Node
from flowcraft.engine.events import Endpoint
from flowcraft.engine.view import RunView
from flowcraft.errors import (
    CommandRefused,
    InvalidRequest,
    Misconfigured,
    NotWaiting,
    RunNotFound,
    SignalConflict,
    TooLate,
    Unavailable,
    UnknownOutcome,
)
from flowcraft.flow import Flow
from flowcraft.nodes import NodeContext
from flowcraft.runs import RunHandle
from flowcraft.webhooks import WebhookApp

from .leaping import Stand, reaches
from .world import blueprint

httpx = pytest.importorskip("httpx", reason="calls the application as a client would")
fastapi = pytest.importorskip("fastapi", reason="mounts the application")

BASE = "https://example.org/api/"


async def value(ctx: NodeContext[Any, Any]) -> Any:
    return {"node": ctx.node_id, "input": ctx.input}


REGISTRY = {"value": value}


def hooked(name: str = "hooked", *, params: Mapping[str, Any] | None = None, **wait: Any) -> Blueprint:
    """hook (webhook) → tell → approval (wait) → done, or at its timeout → late."""
    nodes: dict[str, Node | str] = {
        "hook": Node("hook", "webhook", params or {}), "tell": "value", "approval": Node("approval", "wait", wait),
        "done": "value", "late": "value",
    }  # fmt: skip
    return blueprint(name, nodes, ["hook>tell", "tell>approval", "approval>done", Edge("approval", "late", "timeout")])


def adapter_of(stand: Stand, *flows: Blueprint, **options: Any) -> Adapter:
    return stand.adapter(flows, REGISTRY, webhook_base_url=BASE, **options)


class Caller:
    """The outside world: it knows a url and nothing else."""

    def __init__(self, adapter: Adapter, **options: Any) -> None:
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(WebhookApp(adapter, **options)), base_url="https://example.org"
        )

    async def post(self, url: str, body: object = None, **options: Any) -> httpx.Response:
        if body is not None:
            options["json"] = body
        async with asyncio.timeout(20):
            return await self.client.post(url, **options)

    async def status(self, url: str, body: object = None, **options: Any) -> int:
        return (await self.post(url, body, **options)).status_code


def awaiting(view: RunView) -> bool:
    return view.status == "awaiting"


async def url_of(run: RunHandle) -> str:
    """What the node after the webhook was told."""
    await reaches(run, awaiting)
    found = await run._access.store.read_values(run.run_id, space="output")
    (data,) = [data for key, data in found.items() if key.name == "hook"]
    made = run._access.codec.decode(data)
    assert isinstance(made, dict)
    assert made["event"] == f"webhook:{run.run_id}:hook"
    return str(made["url"])


async def test_a_webhook_node_makes_a_url_and_a_call_ends_the_wait(stand: Stand) -> None:
    adapter = adapter_of(stand, hooked())
    async with adapter, adapter.worker():
        run = await adapter.start_run("hooked", run_id="r 1/ä")
        url = await url_of(run)
        assert re.fullmatch(r"https://example\.org/api/webhooks/r%201%2F%C3%A4/hook\?token=[\w-]{43}", url)
        answer = await Caller(adapter).post(url, {"approved": True})
        assert (answer.status_code, answer.json()) == (200, {"status": "accepted"})
        assert answer.headers["cache-control"] == "no-store"
        result = await run.result(10)
        assert result.output("approval") == {"approved": True}
        assert result.output("tell")["input"] == result.output("hook")


async def test_every_documented_answer(stand: Stand) -> None:
    """Early, accepted, the same again, another body, a wrong secret, too late, after the run is gone."""
    adapter = adapter_of(stand, hooked(timeout="1d"), retention=3600.0)
    async with adapter:
        caller = Caller(adapter)
        run = await adapter.start_run("hooked", run_id="r")
        early = (await adapter.register_webhook_endpoint("r", "hook")).url
        assert (await caller.post(early, {"by": 1})).json() == {"status": "early"}
        assert await caller.status(early, {"by": 1}) == 202
        assert await caller.status(early, {"by": 2}) == 409
        async with adapter.worker():
            assert (await run.result(10)).output("approval") == {"by": 1}
        assert await caller.status(early, {"by": 1}) == 200, "the same again, also after the end"
        assert await caller.status(early, {"by": 2}) == 410

        async with adapter.worker():
            run = await adapter.start_run("hooked", run_id="r2")
            url = await url_of(run)
            stand.clock.leap(86401)
            result = await run.result(10)
            assert result.nodes["late"] == "completed"
            answer = await caller.post(url, {"by": 1})
            assert (answer.status_code, answer.json()) == (410, {"status": "too late"})
            await adapter.ticker().run_once(stand.clock.time() + 3700)
            assert await caller.status(url, {"by": 1}) == 404, "the run is deleted, and its secrets with it"
            with pytest.raises(RunNotFound):
                await run.status()


async def test_what_is_not_known_gets_one_answer(stand: Stand) -> None:
    other = blueprint("other", {"wait": Node("wait", "wait")}, [])
    adapter = adapter_of(stand, hooked(), other)
    async with adapter, adapter.worker():
        caller = Caller(adapter)
        run = await adapter.start_run("hooked", run_id="r")
        await adapter.start_run("other", run_id="o")
        url = await url_of(run)
        token = url.partition("token=")[2]
        foreign = (await adapter.register_webhook_endpoint("o", "wait")).url.partition("token=")[2]
        path = "/webhooks/r/hook"
        wrong = [
            path, f"{path}?token=", f"{path}?token=wrong", f"{path}?token={token}x", f"{path}?token={token[:-1]}",
            f"{path}?token={foreign}", f"/webhooks/r/approval?token={token}", f"/webhooks/r/nothing?token={token}",
            f"/webhooks/nobody/hook?token={token}", f"/webhooks/r/?token={token}", f"/?token={token}",
            f"/webhooks/{'x' * 300}/hook?token={token}", f"/webhooks/%ff/hook?token={token}",
            f"/webhooks/r%00/hook?token={token}",
        ]  # fmt: skip
        answers = [await caller.post(where, {}) for where in wrong]
        assert [answer.status_code for answer in answers] == [404] * len(wrong)
        assert {(answer.text, tuple(answer.headers.items())) for answer in answers} == {
            (answers[0].text, tuple(answers[0].headers.items()))
        }
        assert await run.status() == "awaiting"
        assert await caller.status(path, {}, headers={"X-Flowcraft-Token": token}) == 200


async def test_ways_to_show_the_secret(stand: Stand) -> None:
    for headers in ({"X-Flowcraft-Token": "{}"}, {"Authorization": "Bearer {}"}, {"authorization": "bearer  {}"}):
        adapter = adapter_of(stand, hooked())
        async with adapter, adapter.worker():
            run = await adapter.start_run("hooked")
            path, _, token = (await url_of(run)).partition("?token=")
            sent = {name: text.format(token) for name, text in headers.items()}
            assert await Caller(adapter).status(path, {"a": 1}, headers=sent) == 200
            assert await Caller(adapter).status(path, {"a": 1}, headers={"Authorization": f"Basic {token}"}) == 404


async def test_the_mount_does_not_matter(stand: Stand) -> None:
    adapter = adapter_of(stand, hooked())
    async with adapter, adapter.worker():
        app = fastapi.FastAPI()
        app.mount("/api/webhooks", WebhookApp(adapter))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            run = await adapter.start_run("hooked", run_id="a/b?c#d%e")
            assert (await client.post(await url_of(run), json=[1])).status_code == 200
            assert (await run.result(10)).output("approval") == [1]


@pytest.mark.parametrize(
    ("kind", "body", "payload"),
    [
        ("application/json", b'{"a": [1, null, "\xc3\xa4"]}', {"a": [1, None, "ä"]}),
        ("application/json; charset=utf-8", b"\xef\xbb\xbf7", 7),
        ("application/vnd.github+json", b"null", None),
        ("application/json", b"", None),
        ("text/plain", b"\xc3\xa4", "ä"),
        ("text/plain; charset=latin-1", b"\xe4", "ä"),
        ("application/x-www-form-urlencoded", b"a=1&b=2", "a=1&b=2"),
        ("application/octet-stream", b"\x00\xff", b"\x00\xff"),
        (None, b"raw", b"raw"),
    ],
)
async def test_payloads_by_content_type(stand: Stand, kind: str | None, body: bytes, payload: object) -> None:
    adapter = adapter_of(stand, hooked())
    async with adapter, adapter.worker():
        run = await adapter.start_run("hooked")
        headers = {} if kind is None else {"content-type": kind}
        assert await Caller(adapter).status(await url_of(run), content=body, headers=headers) == 200
        assert (await run.result(10)).output("approval") == payload


async def test_bodies_that_are_refused(stand: Stand) -> None:
    adapter = adapter_of(stand, hooked())
    async with adapter, adapter.worker():
        caller = Caller(adapter, max_body=20_000)
        run = await adapter.start_run("hooked")
        url = await url_of(run)
        json_type = {"content-type": "application/json"}
        malformed = (
            b"{", b'{"a": NaN}', b"[Infinity]", b"\xff", b"[" * 15_000, b"1" * 10_000, b'"\\ud800"',
            b"[" * 150 + b"]" * 150,
        )  # fmt: skip
        for body in malformed:
            answer = await caller.post(url, content=body, headers=json_type)
            assert answer.status_code == 400, body[:20]
            assert answer.json()["status"] in ("malformed", "refused")
            assert "Traceback" not in answer.text
        for kind in ("text/plain", "text/plain; charset=nonsense"):
            assert await caller.status(url, content=b"\xff", headers={"content-type": kind}) == 400
        assert await caller.status(url, content=b"x" * 20_001) == 413

        async def stream() -> Any:
            for _ in range(30):
                yield b"x" * 1000

        assert await caller.status(url, content=stream()) == 413
        assert await caller.status(url + "&action=", {}) in (200, 400)
        for method in ("GET", "PUT", "DELETE", "HEAD", "OPTIONS"):
            answer = await caller.client.request(method, url)
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_a_payload_that_cannot_be_stored_for_its_size(stand: Stand) -> None:
    adapter = adapter_of(stand, hooked())
    async with adapter, adapter.worker():
        run = await adapter.start_run("hooked")
        caller = Caller(adapter, max_body=3_000_000)
        assert await caller.status(await url_of(run), "x" * 2_000_000) == 413
        assert await run.status() == "awaiting"


async def test_a_payload_of_the_wrong_type(stand: Stand) -> None:
    flow = Flow[None]("typed")
    flow.wait("approval", payload=dict[str, int], after=flow.create_webhook("hook"))
    adapter = stand.adapter(flows=[flow], webhook_base_url=BASE)
    async with adapter, adapter.worker():
        run = await adapter.start_run(flow)
        url, caller = await url_of(run), Caller(adapter)
        answer = await caller.post(url, {"amount": "much"})
        assert (answer.status_code, answer.json()["status"]) == (400, "refused")
        assert "$.amount" in answer.json()["detail"]
        assert await caller.status(url, {"amount": 3}) == 200


async def test_what_is_the_same_again(stand: Stand) -> None:
    """The body byte by byte, and the action; or the header, if there is one."""
    adapter = adapter_of(stand, hooked())
    async with adapter:
        caller = Caller(adapter)
        for key in ("by body", "by key"):
            await adapter.start_run("hooked", run_id=key)
            url = (await adapter.register_webhook_endpoint(key, "hook")).url
            headers = {"Idempotency-Key": "k" * 300} if key == "by key" else {}
            assert await caller.status(url, {"n": 1}, headers=headers) == 202
            assert await caller.status(url, {"n": 1}, headers=headers) == 202
            assert await caller.status(url, {"n": 2}, headers=headers) == (409 if key == "by body" else 202)
            assert await caller.status(url + "&action=other", {"n": 1}) == 409


async def test_the_action_of_a_call(stand: Stand) -> None:
    nodes: dict[str, Node | str] = {"wait": Node("wait", "wait"), "yes": "value", "no": "value"}
    flow = blueprint("acting", nodes, [Edge("wait", "yes", "yes"), Edge("wait", "no", "no")])
    adapter = adapter_of(stand, flow)
    async with adapter, adapter.worker():
        run = await adapter.start_run("acting")
        url = (await adapter.register_webhook_endpoint(run.run_id, "wait")).url
        assert await Caller(adapter).status(url + "&action=no") in (200, 202)
        result = await run.result(10)
        assert (result.nodes["yes"], result.nodes["no"]) == ("skipped", "completed")


async def test_fifty_calls_at_once(stand: Stand) -> None:
    one, two = adapter_of(stand, hooked()), adapter_of(stand, hooked())
    async with one, two, one.worker():
        run = await one.start_run("hooked")
        url, callers = await url_of(run), (Caller(one), Caller(two))
        answers = await asyncio.gather(*(callers[n % 2].post(url, {"n": n % 25}) for n in range(50)))
        told = Counter((a.status_code, a.json()["status"]) for a in answers)
        assert told[200, "accepted"] == 1
        assert told[200, "repeated"] == 1
        assert told[409, "conflict"] + told[410, "too late"] == 48
        first = next(n for n, a in enumerate(answers) if a.json()["status"] == "accepted")
        assert (await run.result(10)).output("approval") == {"n": first % 25}


async def test_the_store_cannot_be_reached(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = adapter_of(stand, hooked())
    async with adapter, adapter.worker():
        run = await adapter.start_run("hooked")
        url, caller = await url_of(run), Caller(adapter)
        read = adapter.store.read_values

        for error, status in ((Unavailable("no way"), 503), (UnknownOutcome("who knows"), 503), (ValueError("x"), 500),
                              (Misconfigured("never"), 500)):  # fmt: skip

            async def fails(*_: Any, error: Exception = error, **__: Any) -> Any:
                raise error

            monkeypatch.setattr(adapter.store, "read_values", fails)
            answer = await caller.post(url, {"a": 1})
            assert answer.status_code == status
            assert answer.headers.get("retry-after") == ("5" if status == 503 else None)
            assert str(error) not in answer.text
        monkeypatch.setattr(adapter.store, "read_values", read)
        assert await caller.status(url, {"a": 1}) == 200
    answer = await caller.post(url, {"a": 1})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5"), "the adapter is closed"


async def test_secrets_are_nowhere(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    """Not in the log, events or stored values, but in the output of the node that made the url."""
    caplog.set_level(logging.DEBUG)
    adapter = adapter_of(stand, hooked())
    async with adapter, adapter.worker():
        run = await adapter.start_run("hooked", run_id="r")
        caller = Caller(adapter)
        token = (await url_of(run)).partition("token=")[2]
        other = (await adapter.register_webhook_endpoint("r", "hook")).url.partition("token=")[2]
        for body in (b"{", b"{}", b"[]"):
            await caller.post(
                f"/webhooks/r/hook?token={token}", content=body, headers={"content-type": "application/json"}
            )
        await run.result(10)
        ours = [record.getMessage() + str(record.__dict__) for record in caplog.records if record.name[:5] == "flowc"]
        events = [event.to_json() for event in await run.history()]
        assert "webhook:registered" in json.dumps(events)
        stored = await adapter.store.load("r")
        assert stored is not None
        values = {
            space: await adapter.store.read_values("r", space=space) for space in ("webhook", "signal", "context")
        }
        assert len(values["webhook"]) == 2
        for text in (*ours, *events, repr(stored.head), repr(values)):
            assert token not in text
            assert other not in text


async def test_a_webhook_executed_again_makes_another_url_and_both_are_good(stand: Stand) -> None:
    adapter = adapter_of(stand, hooked())
    async with adapter, adapter.worker():
        run = await adapter.start_run("hooked", run_id="r")
        first = await url_of(run)
        second = (await adapter.register_webhook_endpoint("r", "hook")).url
        assert first != second
        caller = Caller(adapter)
        assert await caller.status(second, {"n": 1}) == 200
        assert (await caller.post(first, {"n": 1})).json() == {"status": "repeated"}


async def test_in_a_loop_each_url_is_for_its_round(stand: Stand) -> None:
    """A call with the url of the first round never ends the wait of the second."""
    flow = Blueprint.from_json(
        '{"id": "rounds", "nodes": ['
        '{"id": "begin", "uses": "value"}, {"id": "hook", "uses": "webhook"}, {"id": "wait", "uses": "wait"},'
        '{"id": "again", "uses": "loop-controller", "params": {"condition": "input != \'stop\'"}},'
        '{"id": "end", "uses": "value"}], "edges": [{"source": "begin", "target": "again"},'
        '{"source": "again", "target": "hook", "action": "continue"}, {"source": "hook", "target": "wait"},'
        '{"source": "wait", "target": "again"}, {"source": "again", "target": "end", "action": "break"}]}'
    )
    adapter = adapter_of(stand, flow)
    async with adapter, adapter.worker():
        run, caller = await adapter.start_run("rounds", run_id="r"), Caller(adapter)
        first = await url_of(run)
        assert await caller.status(first, "go") == 200
        await reaches(run, lambda view: view.status == "awaiting" and view.nodes["hook"].visit == 2)
        second = await url_of(run)
        assert first != second
        assert (await caller.post(first, "go")).json() == {"status": "repeated"}
        assert await caller.status(first, "stop") == 409
        assert await run.status() == "awaiting"
        assert await caller.status(second, "stop") == 200
        assert (await run.result(10)).status == "completed"


async def test_which_wait_a_webhook_ends(stand: Stand) -> None:
    named = hooked("named", params={"waitNodeId": "approval"})
    by_event = blueprint(
        "by event",
        {
            "hook": Node("hook", "webhook"),
            "a": Node("a", "wait"),
            "b": Node("b", "wait", {"eventName": "webhook:hook"}),
        },
        ["hook>a", "hook>b"],
    )
    several = blueprint("several", {"hook": "webhook", "a": "wait", "b": "wait"}, ["hook>a", "a>b"])
    none = blueprint("none", {"hook": "webhook", "a": "value"}, ["hook>a"])
    wrong = hooked("wrong", params={"waitNodeId": "tell"})
    adapter = adapter_of(stand, named, by_event, several, none, wrong)
    async with adapter, adapter.worker():
        run = await adapter.start_run("named")
        assert await Caller(adapter).status(await url_of(run), 1) == 200
        run = await adapter.start_run("by event")
        assert await Caller(adapter).status(await url_of(run), 1) == 200
        view = await run.view()
        assert (view.nodes["a"].state, view.nodes["b"].state) == ("waiting", "completed")
        for flow, why in (("several", "several waits"), ("none", "no wait follows"), ("wrong", "only a wait")):
            result = await (await adapter.start_run(flow)).result(10)
            assert result.status == "failed"
            assert why in str(result.errors[0]), flow


async def test_without_a_base_url_the_node_fails_and_says_why(stand: Stand) -> None:
    async with stand.adapter([hooked()], REGISTRY) as adapter, adapter.worker():
        run = await adapter.start_run("hooked")
        result = await run.result(10)
        assert str(result.errors[0]).startswith("hook: Misconfigured: no url")
        with pytest.raises(Misconfigured, match="webhook_base_url"):
            await adapter.register_webhook_endpoint(run.run_id, "hook")
    for wrong in ("example.org", "ftp://example.org", "https://", "https://example.org?x=1"):
        with pytest.raises(InvalidRequest, match="webhook_base_url"):
            stand.adapter(webhook_base_url=wrong)


async def test_in_process_a_webhook_needs_a_stand_in(stand: Stand) -> None:
    runtime = stand.adapter([hooked()], REGISTRY).runtime
    result = await runtime.run("hooked")  # type: ignore[attr-defined] # a FlowRuntime
    assert "needs an adapter" in str(result.errors[0])

    async def fake(ctx: NodeContext[Any, Any]) -> dict[str, str]:
        return {"url": "none", "event": "none"}

    runtime = stand.adapter([hooked()], REGISTRY | {"webhook": fake}).runtime
    result = await runtime.run("hooked")  # type: ignore[attr-defined] # a FlowRuntime
    assert result.status == "awaiting"
    async with stand.adapter([hooked()], REGISTRY | {"webhook": fake}) as adapter, adapter.worker():
        run = await adapter.start_run("hooked")
        await reaches(run, awaiting)
        assert await run.signal("approval") == "accepted"
        assert (await run.result(10)).output("hook") == {"url": "none", "event": "none"}


async def test_registering_by_hand(stand: Stand) -> None:
    adapter = adapter_of(stand, hooked())
    async with adapter, adapter.worker():
        run = await adapter.start_run("hooked", run_id="r")
        await reaches(run, awaiting)
        made = await adapter.register_webhook_endpoint("r", "approval")
        assert made.event == "webhook:r:approval"
        with pytest.raises(RunNotFound):
            await adapter.register_webhook_endpoint("nobody", "hook")
        for node in ("tell", "nothing"):
            with pytest.raises(NotWaiting):
                await adapter.register_webhook_endpoint("r", node)
        assert await Caller(adapter).status(made.url, 5) == 200
        assert (await run.result(10)).output("approval") == 5
        with pytest.raises(CommandRefused, match="ended"):
            await adapter.register_webhook_endpoint("r", "hook")


async def test_the_event_of_a_webhook(stand: Stand) -> None:
    """For callers with authority: no secret. Ids may hold colons."""
    adapter = adapter_of(stand, hooked())
    async with adapter, adapter.worker():
        for run_id in ("plain", "with:colons:in:it"):
            run = await adapter.start_run("hooked", run_id=run_id)
            await reaches(run, awaiting)
            event = f"webhook:{run_id}:hook"
            assert await adapter.publish_event(event, 3, signal_id="e1") == {"approval": "accepted"}
            assert await adapter.publish_event(event, 3, signal_id="e1") == {"approval": "repeated"}
            with pytest.raises((TooLate, SignalConflict)):
                await adapter.publish_event(event, 4)
            assert (await run.result(10)).output("approval") == 3
        with pytest.raises(RunNotFound):
            await adapter.publish_event("webhook:nobody:hook")
        with pytest.raises(NotWaiting):
            await adapter.publish_event("webhook:plain:tell")
        with pytest.raises(InvalidRequest):
            await adapter.publish_event("webhook:")


async def test_an_event_that_can_mean_two_runs_is_refused(stand: Stand) -> None:
    flows = [blueprint(f"of {node}", {node: Node(node, "wait")}, []) for node in ("c", "b:c")]
    adapter = adapter_of(stand, *flows)
    async with adapter, adapter.worker():
        for name, run_id in (("of c", "a:b"), ("of b:c", "a")):
            await reaches(await adapter.start_run(name, run_id=run_id), awaiting)
        with pytest.raises(InvalidRequest, match="several runs"):
            await adapter.publish_event("webhook:a:b:c")
        assert await adapter.publish_event("webhook:a:b:c", run_id="a") == {"b:c": "accepted"}
        assert await adapter.publish_event("webhook:a:b:c", run_id="a:b") == {"c": "accepted"}


async def test_the_whole_digest_of_a_secret_counts(stand: Stand) -> None:
    """Not only the part of it by which the record is found."""
    adapter = adapter_of(stand, hooked())
    async with adapter, adapter.worker():
        run = await adapter.start_run("hooked", run_id="r")
        await reaches(run, awaiting)
        guess = hashlib.sha256(b"guess").hexdigest()
        for end in ("0" * 32, guess[32:]):
            record = {"node": "hook", "wait": "approval", "visit": 1, "digest": guess[:32] + end}
            planted = Endpoint(0, guess[:32], adapter.runtime.codec.encode(record))
            await run._access.committer.submit("r", planted)
            wanted = 200 if end == guess[32:] else 404
            assert await Caller(adapter).status("/webhooks/r/hook?token=guess", 1) == wanted


async def test_the_application_by_itself(stand: Stand) -> None:
    """What a server tells it besides calls: its own start and end, and sockets."""
    adapter = adapter_of(stand, hooked())
    sent: list[Any] = []
    told = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(told)

    async def send(message: Any) -> None:
        sent.append(message)

    await WebhookApp(adapter)({"type": "lifespan"}, receive, send)
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    await WebhookApp(adapter)({"type": "websocket"}, receive, send)
    assert sent[-1]["type"] == "websocket.close"


async def test_a_caller_that_hangs_up_is_not_answered(stand: Stand) -> None:
    adapter = adapter_of(stand, hooked())
    async with adapter, adapter.worker():
        run = await adapter.start_run("hooked", run_id="r")
        url = await url_of(run)
        parts = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
        sent: list[Any] = []

        async def receive() -> Any:
            return next(parts)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/webhooks/r/hook", "headers": [],
            "query_string": url.partition("?")[2].encode(),
        }  # fmt: skip
        await WebhookApp(adapter)(scope, receive, send)
        assert sent == []
        assert await run.status() == "awaiting"
