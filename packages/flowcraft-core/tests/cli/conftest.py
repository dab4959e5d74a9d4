"""An application in a folder of its own, and the command run in this process."""

import logging
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from flowcraft.cli import main

APPLICATION = """
from flowcraft import Flow, FlowRuntime, NodeContext, Retry
from flowcraft.sqlite import SqliteAdapter

flow = Flow[None]("order", version="1")


@flow.node
async def price(ctx: NodeContext[object, None]) -> object:
    print("pricing")
    return ctx.input


@flow.node(after=price, retries=Retry(attempts=2, delay=0.01))
async def charge(ctx: NodeContext[object, None]) -> object:
    ctx.progress(0.5, "half of it")
    if ctx.input == "talks":
        ctx.log.info("charging\\nin two lines")
    if ctx.input in ("flaky", "talks") and ctx.attempt == 1:
        raise ValueError("not yet\\nsecond line")
    if ctx.input == "bad":
        raise ValueError("never")
    return {"charged": ctx.input}


@flow.node
async def alert(ctx: NodeContext[object, None]) -> str:
    return await ctx.context.get("who", "nobody")


flow.edge("price", "alert", condition="result.output == 'alert'")
other = Flow[None]("other")


@other.node
async def only(ctx: NodeContext[object, None]) -> object:
    return ctx.input


registry = {"order.price": price, "order.charge": charge, "order.alert": alert}


def both() -> FlowRuntime:
    return FlowRuntime([flow, other])


def create_adapter() -> SqliteAdapter:
    return SqliteAdapter(FlowRuntime([flow]), path="own.db")


def needs(argument):
    return flow


async def unsuitable():
    return flow


def broken():
    raise KeyError("broken")
"""


@dataclass
class Application:
    """``name`` is the module; ``call`` runs the command and returns its exit code, stdout and stderr."""

    name: str
    folder: Path
    call: Callable[..., tuple[int, str, str]]

    def __getattr__(self, attribute: str) -> str:
        return f"{self.name}:{attribute}"


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Application:
    name = f"app_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(APPLICATION, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("FLOWCRAFT_URL", raising=False)
    monkeypatch.delenv("FLOWCRAFT_DEBUG", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        logger = logging.getLogger()
        level, handlers = logger.level, logger.handlers[:]
        try:
            code = main(arguments)
        finally:  # it may set up the logging of its process, which is that of other tests, too
            logger.setLevel(level)
            logger.handlers[:] = handlers
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return Application(name, tmp_path, call)


@pytest.fixture
def url() -> str:
    return "sqlite:///runs.db"
