"""The record of what happened, and the trace of a run that did not go well."""

from __future__ import annotations

import io

import pytest

from flowcraft import Flow, FlowRuntime, NodeContext
from flowcraft.errors import DefinitionError
from flowcraft.testing import Recorder, run_with_trace

Ctx = NodeContext[object, None]


def a_flow(fails: bool = False) -> Flow[None]:
    flow = Flow[None]("recorded")

    @flow.node
    async def first(ctx: Ctx) -> int:
        return 1

    @flow.node(after=first)
    async def second(ctx: NodeContext[int, None]) -> int:
        if fails:
            raise ValueError("no second")
        return 2

    return flow


async def test_a_recorder_is_a_listener_that_can_be_asked() -> None:
    heard = Recorder()
    flow = a_flow()
    await FlowRuntime([flow], listeners=[heard]).run(flow, run_id="one")
    assert heard.types()[0] == "run:started"
    assert heard.types()[-1] == "run:completed"
    assert heard.of("node:completed").nodes() == ["first", "second"]
    assert heard.node("second").types() == ["node:started", "node:completed"]
    assert len(heard.run("one")) == len(heard)
    assert len(heard.run("two")) == 0
    assert isinstance(heard[0:2], Recorder)
    assert [event.seq for event in heard if event.seq] == list(range(1, 1 + sum(e.seq > 0 for e in heard)))


async def test_the_timeline_has_a_line_for_each_event() -> None:
    heard = Recorder()
    flow = a_flow(fails=True)
    runtime = FlowRuntime([flow], listeners=[heard])
    await runtime.run(flow, run_id="one")
    lines = heard.timeline().splitlines()
    assert len(lines) == len(heard)
    failed = next(line for line in lines if "node:failed" in line)
    assert "second" in failed
    assert "ValueError: no second" in failed
    assert "one" not in failed, "one run only: no need to name it"
    await runtime.run(flow, run_id="two")
    assert all("one" in line or "two" in line for line in heard.timeline().splitlines())
    assert str(heard) in repr(heard)
    assert str(Recorder()) == "(nothing happened)"


async def test_the_trace_of_a_failed_run_is_written() -> None:
    flow = a_flow(fails=True)
    runtime, file = FlowRuntime([flow]), io.StringIO()
    result = await run_with_trace(runtime, flow, run_id="one", file=file)
    assert result.status == "failed"
    assert "node:failed" in file.getvalue()
    assert "run 'one' failed" in file.getvalue()
    assert "second: ValueError: no second" in file.getvalue()
    assert runtime.listeners == (), "the caller's runtime is as it was"


async def test_nothing_is_written_of_a_run_that_completed(capsys: pytest.CaptureFixture[str]) -> None:
    flow = a_flow()
    assert (await run_with_trace(FlowRuntime([flow]), flow)).status == "completed"
    assert capsys.readouterr().out == ""


async def test_what_the_runtime_raises_is_raised_with_a_trace(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DefinitionError):
        await run_with_trace(FlowRuntime([]), "unknown")
    assert "nothing happened" in capsys.readouterr().out
