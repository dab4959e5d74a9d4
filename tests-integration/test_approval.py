"""An approval that takes days: started, every worker gone, answered by another process, from the command line.

The processes are real; what lies between them is a clock that a variable sets forward.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest

from flowcraft.adapter import Adapter
from flowcraft.runs import RunHandle
from flowcraft.webhooks import WebhookApp

APPLICATION = '''
import os
from dataclasses import dataclass

from flowcraft import Flow, FlowRuntime, NodeContext
from flowcraft.clock import SystemClock
from flowcraft.sqlite import SqliteAdapter


@dataclass
class Decision:
    by: str
    approved: bool = True


class Later(SystemClock):
    """The time of a process that is started days later."""

    def time(self) -> float:
        return super().time() + float(os.environ.get("DAYS_LATER", "0")) * 86400


flow = Flow[None]("expense", version="1")


@flow.node
async def submit(ctx: NodeContext[dict, None]) -> dict:
    return ctx.input


flow.create_webhook("link", after=submit)


@flow.node(after="link")
async def mail(ctx: NodeContext[dict, None]) -> str:
    return ctx.input["url"]


flow.wait("approval", after=mail, timeout="14d", payload=Decision)


@flow.node(after="approval")
async def pay(ctx: NodeContext[Decision, None]) -> str:
    return f"paid, approved by {ctx.input.by}"


@flow.node
async def refuse(ctx: NodeContext[Decision, None]) -> str:
    return f"refused by {ctx.input.by}"


@flow.node
async def remind(ctx: NodeContext[None, None]) -> str:
    return "nobody answered"


flow.edge("approval", "refuse", action="reject")
flow.edge("approval", "remind", action="timeout")


def create_adapter() -> SqliteAdapter:
    return SqliteAdapter(
        FlowRuntime([flow], clock=Later()), path="expenses.db", tick=0.05, webhook_base_url="https://example.org"
    )
'''


class Office:
    """The application's folder, and its processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"app_{uuid.uuid4().hex}"
        (folder / f"{self.name}.py").write_text(APPLICATION, encoding="utf-8")
        self.app = f"{self.name}:create_adapter"

    def command(self, *arguments: str, days: float) -> tuple[int, str, str]:
        """A process of its own, so many days later."""
        done = subprocess.run(
            [sys.executable, "-m", "flowcraft", *arguments],
            cwd=self.folder, env={**os.environ, "DAYS_LATER": str(days)}, capture_output=True, text=True, timeout=50,
            check=False,
        )  # fmt: skip
        return done.returncode, done.stdout.strip(), done.stderr.strip()

    def steer(self, name: str, *arguments: str, days: float) -> tuple[int, str, str]:
        return self.command(name, *arguments, "--app", self.app, days=days)

    def finish(self, run_id: str, *, days: float) -> tuple[int, str, str]:
        """With a worker in a process of its own: the same start finds the same run."""
        return self.command(
            "run", self.app, "--run-id", run_id, "--input", '{"total": 7}', "--quiet", days=days
        )  # fmt: skip

    def adapter(self) -> Adapter:
        """In this process, today."""
        spec = importlib.util.spec_from_file_location(self.name, self.folder / f"{self.name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[self.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        make: Callable[[], Adapter] = module.create_adapter
        return make()


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAYS_LATER", raising=False)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return Office(tmp_path)


async def awaits(run: RunHandle) -> None:
    async with asyncio.timeout(20), aclosing(run.watch()) as events:
        async for _ in events:
            if await run.status() == "awaiting":
                return


async def submitted(office: Office, *run_ids: str) -> dict[str, str]:
    """Runs that wait, begun by a worker that is gone now; what was mailed for each."""
    urls: dict[str, str] = {}
    async with office.adapter() as adapter:
        async with adapter.worker():
            for run_id in run_ids:
                run = await adapter.start_run("expense", {"total": 7}, run_id=run_id)
                await awaits(run)
        for run_id in run_ids:
            stored = await adapter.store.read_values(run_id, space="output")
            (data,) = [data for key, data in stored.items() if key.name == "mail"]
            urls[run_id] = json.loads(data)
    return urls


async def test_approved_from_the_command_line_days_later(office: Office) -> None:
    await submitted(office, "r")
    code, out, err = office.steer("signal", "r", "approval", "--payload", '{"by": 7}', days=5)
    assert (code, out) == (2, "")
    assert "$.by" in err
    assert office.steer("signal", "r", "approval", "--payload", '{"by": "Ann"}', days=5)[:2] == (
        0, "r  approval  accepted",
    )  # fmt: skip
    assert office.finish("r", days=6)[:2] == (0, "paid, approved by Ann")
    code, _, err = office.steer("signal", "r", "approval", "--payload", '{"by": "Bob"}', days=7)
    assert (code, "too late" in err) == (2, True)


async def test_rejected_twice_the_second_is_refused(office: Office) -> None:
    await submitted(office, "r")
    reject = ("signal", "r", "approval", "--action", "reject", "--payload")
    assert office.steer(*reject, '{"by": "Ann", "approved": false}', days=5)[0] == 0
    code, out, err = office.steer(*reject, '{"by": "Bob", "approved": false}', days=5)
    assert (code, out) == (2, "")
    assert err == "flowcraft: another signal was taken for 'approval': there can be one only"
    assert office.finish("r", days=5)[:2] == (0, "refused by Ann")


async def test_without_an_answer_the_route_of_the_timeout(office: Office) -> None:
    await submitted(office, "r")
    _, out, _ = office.steer("status", "r", "--json", days=13)
    assert json.loads(out)["status"] == "awaiting"
    assert office.finish("r", days=15)[:2] == (0, "nobody answered")
    assert office.steer("signal", "r", "approval", "--payload", '{"by": "Ann"}', days=16)[0] == 2


def outside(adapter: Adapter) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(WebhookApp(adapter)))


async def test_its_webhook(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Early, twice, with another body, late, with a wrong secret; and nothing of it needs a worker."""
    urls = await submitted(office, "r", "late")
    async with office.adapter() as adapter, outside(adapter) as http:

        async def call(url: str, by: object) -> int:
            return (await http.post(url, json={"by": by})).status_code

        await adapter.start_run("expense", {"total": 1}, run_id="early")
        early = (await adapter.register_webhook_endpoint("early", "link")).url
        assert await call(early, "Ann") == 202
        assert await call(early, "Ann") == 202
        assert await call(early, "Bob") == 409

        url = urls["r"]
        assert await call(url[:-1] + ("A" if url[-1] != "A" else "B"), "Ann") == 404
        assert await call(urls["late"].replace("/late/", "/r/"), "Ann") == 404
        assert await call(url, 7) == 400
        assert (await http.get(url)).status_code == 405
        assert await call(url, "Ann") == 200
        assert await call(url, "Ann") == 200
        assert await call(url, "Bob") == 409
    assert office.finish("r", days=1)[:2] == (0, "paid, approved by Ann")
    code, out, _ = office.command(
        "run", office.app, "--run-id", "early", "--input", '{"total": 1}', "--quiet", days=1
    )  # fmt: skip
    assert (code, out) == (0, "paid, approved by Ann")
    assert office.finish("late", days=15)[:2] == (0, "nobody answered")
    monkeypatch.setenv("DAYS_LATER", "16")
    async with office.adapter() as adapter, outside(adapter) as http:
        assert (await http.post(urls["late"], json={"by": "Ann"})).status_code == 410
        assert (await http.post(urls["r"], json={"by": "Bob"})).status_code == 410
        assert (await http.post(urls["r"], json={"by": "Ann"})).status_code == 200, "the same again"
