"""``flowcraft signal``, ``publish``, ``pause``, ``resume``, ``retry``, ``rerun``, ``rollback``, ``patch``, ``mark``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from flowcraft.adapter import Adapter
from flowcraft.cli.failures import OK, CommandError, one_line
from flowcraft.cli.payload import read_context, read_input, to_json
from flowcraft.cli.targets import store_of
from flowcraft.rerunning import UNCHANGED
from flowcraft.runs import RunHandle

__all__ = ["STEERING"]

#: What a command did, as JSON data, and in words for people.
_Told = tuple[Mapping[str, object], str]


async def _signal(args: argparse.Namespace) -> int:
    payload = read_input(args.payload, "--payload")

    async def act(handle: RunHandle, _: Adapter) -> _Told:
        answer = await handle.signal(args.node, payload, action=args.action, signal_id=args.id, visit=args.visit)
        return {"node": args.node, "answer": answer}, f"{one_line(args.node)}  {answer}"

    return await _steer(args, act)


async def _publish(args: argparse.Namespace) -> int:
    payload = read_input(args.payload, "--payload")
    async with store_of(args.app, args.url) as adapter:
        answers = await adapter.publish_event(
            args.event, payload, run_id=args.run, action=args.action, signal_id=args.id
        )
        if args.json:
            print(to_json({"event": args.event, "answers": answers}))
        else:
            for node, answer in answers.items():
                print(f"{one_line(node)}  {answer}")
        return OK


async def _pause(args: argparse.Namespace) -> int:
    async def act(handle: RunHandle, _: Adapter) -> _Told:
        done = await handle.pause()
        return {"paused": done}, "paused" if done else "paused already"

    return await _steer(args, act)


async def _resume(args: argparse.Namespace) -> int:
    async def act(handle: RunHandle, _: Adapter) -> _Told:
        done = await handle.resume()
        return {"resumed": done}, "resumed" if done else "was not paused"

    return await _steer(args, act)


async def _retry(args: argparse.Namespace) -> int:
    async def act(handle: RunHandle, _: Adapter) -> _Told:
        epoch = await handle.retry(args.nodes)
        return {"epoch": epoch}, f"started again, epoch {epoch}"

    return await _steer(args, act)


async def _rerun(args: argparse.Namespace) -> int:
    given = UNCHANGED if args.input is None else read_input(args.input)
    context = read_context(args.context)

    async def act(handle: RunHandle, adapter: Adapter) -> _Told:
        made = await adapter.rerun(
            handle.run_id, args.from_node, input=given, context=context, new_run_id=args.new_run_id
        )
        return {"from": args.from_node, "new_run_id": made.run_id}, f"runs again as {one_line(made.run_id)}"

    return await _steer(args, act)


async def _rollback(args: argparse.Namespace) -> int:
    async def act(handle: RunHandle, _: Adapter) -> _Told:
        done = await handle.rollback(args.to)
        return {"to": args.to, "begun": done}, "is being rolled back" + ("" if done else " already")

    return await _steer(args, act)


async def _patch(args: argparse.Namespace) -> int:
    values: dict[str, object] = {}
    for pair in args.values:
        key, equals, text = str(pair).partition("=")
        if not equals or not key:
            raise CommandError(f"{one_line(pair)!r} is not KEY=JSON")
        values[key] = read_input(text, key)
    if not values and not args.delete:
        raise CommandError("nothing to patch: give KEY=JSON or --delete KEY")

    async def act(handle: RunHandle, _: Adapter) -> _Told:
        await handle.patch_context(values, args.delete)
        return {"set": sorted(values), "deleted": sorted(set(args.delete))}, "patched"

    return await _steer(args, act)


async def _mark(args: argparse.Namespace) -> int:
    output = read_input(args.output, "--output")

    async def act(handle: RunHandle, _: Adapter) -> _Told:
        done = await handle.mark_completed(args.node, output, args.action)
        told = "marked as completed" if done else "was completed already"
        return {"node": args.node, "marked": done}, f"{one_line(args.node)}  {told}"

    return await _steer(args, act)


async def _steer(args: argparse.Namespace, act: Callable[[RunHandle, Adapter], Coroutine[Any, Any, _Told]]) -> int:
    """Do it to one run, and tell it."""
    async with store_of(args.app, args.url) as adapter:
        data, text = await act(adapter.run(args.run_id), adapter)
        if args.json:
            print(to_json({"run_id": args.run_id, **data}))
        else:
            print(f"{one_line(args.run_id)}  {text}")
        return OK


#: The commands of this module by name.
STEERING: Final[Mapping[str, Callable[[argparse.Namespace], Coroutine[Any, Any, int]]]] = {
    "signal": _signal,
    "publish": _publish,
    "pause": _pause,
    "resume": _resume,
    "retry": _retry,
    "rerun": _rerun,
    "rollback": _rollback,
    "patch": _patch,
    "mark": _mark,
}
