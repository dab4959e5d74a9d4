"""``flowcraft schedule``: flows that are started at times."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any

from flowcraft.adapter import Adapter
from flowcraft.cli.failures import OK, CommandError, one_line
from flowcraft.cli.payload import read_input, to_json
from flowcraft.cli.targets import adapter_of, load_target, store_of
from flowcraft.recurrence import Cron
from flowcraft.schedules import Schedule

__all__ = ["schedule_command"]

_UPCOMING = 5


async def schedule_command(args: argparse.Namespace) -> int:
    """One action on schedules."""
    if args.action == "create":
        return await _create(args)
    async with store_of(args.app, args.url) as adapter:
        return await _ACTIONS[args.action](adapter, args)


async def _create(args: argparse.Namespace) -> int:
    target = load_target(args.target, args.registry)
    blueprint, value, start = target.blueprint(args.flow), read_input(args.input), _moment(args.start)
    async with adapter_of(target, args.url) as adapter:
        schedule = await adapter.schedules.create(
            args.schedule, blueprint, cron=args.cron, every=args.every, timezone=args.timezone, start=start,
            input=value, catch_up=args.catch_up, pin=args.pin,
        )  # fmt: skip
    return _tell(schedule, args)


async def _list(adapter: Adapter, args: argparse.Namespace) -> int:
    page = await adapter.schedules.list(limit=args.limit, after=args.after)
    if args.json:
        print(to_json({"schedules": [_data(schedule) for schedule in page.items], "after": page.after}))
        return OK
    table = [("SCHEDULE", "STATUS", "FLOW", "WHEN", "NEXT", "LAST")]
    for one in page.items:
        ids = one_line(one.id), _status(one), one_line(one.flow)
        table.append((*ids, _when(one), _shown(one, one.next_time), _shown(one, one.last_time)))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
    if page.after is not None:
        print(f"there are more: --after {page.after}", file=sys.stderr)
    return OK


async def _show(adapter: Adapter, args: argparse.Namespace) -> int:
    schedule = await adapter.schedules.get(args.schedule)
    value = await adapter.schedules.read_input(args.schedule)
    upcoming = _upcoming(schedule)
    if args.json:
        print(to_json({**_data(schedule), "input": value, "upcoming": upcoming}))
        return OK
    pinned = f", always {schedule.pinned[:12]}" if schedule.pinned else ""
    rows = [
        ("schedule", one_line(schedule.id)),
        ("status", _status(schedule)),
        ("flow", one_line(schedule.flow) + pinned),
        ("when", _when(schedule)),
        ("catch up", schedule.catch_up),
        ("input", one_line(to_json(value))),
        ("last", _shown(schedule, schedule.last_time)),
        ("last run", one_line(schedule.last_run_id or "-")),
        *(("next" if number == 0 else "", _shown(schedule, at)) for number, at in enumerate(upcoming)),
    ]
    for name, told in rows:
        print(f"{name:<9} {told}")
    return OK


async def _pause(adapter: Adapter, args: argparse.Namespace) -> int:
    return _tell(await adapter.schedules.pause(args.schedule), args)


async def _resume(adapter: Adapter, args: argparse.Namespace) -> int:
    return _tell(await adapter.schedules.resume(args.schedule), args)


async def _delete(adapter: Adapter, args: argparse.Namespace) -> int:
    await adapter.schedules.delete(args.schedule)
    print(to_json({"id": args.schedule, "deleted": True}) if args.json else f"{one_line(args.schedule)}  deleted")
    return OK


async def _trigger(adapter: Adapter, args: argparse.Namespace) -> int:
    handle = await adapter.schedules.trigger(args.schedule)
    print(to_json({"run_id": handle.run_id}) if args.json else one_line(handle.run_id))
    return OK


_ACTIONS: Mapping[str, Callable[[Adapter, argparse.Namespace], Coroutine[Any, Any, int]]] = {
    "list": _list, "show": _show, "pause": _pause, "resume": _resume, "delete": _delete, "trigger": _trigger,
}  # fmt: skip


def _tell(schedule: Schedule, args: argparse.Namespace) -> int:
    if args.json:
        print(to_json(_data(schedule)))
    else:
        coming = "" if schedule.paused else f"  next {_shown(schedule, schedule.next_time)}"
        print(f"{one_line(schedule.id)}  {_status(schedule)}{coming}")
    return OK


def _data(schedule: Schedule) -> dict[str, object]:
    when = schedule.recurrence
    if isinstance(when, Cron):
        times: dict[str, object] = {"cron": when.expression, "timezone": when.timezone}
    else:
        times = {"every": when.seconds, "start": when.start}
    return {
        "id": schedule.id, "status": _status(schedule), "flow": schedule.flow, "pinned": schedule.pinned, **times,
        "catch_up": schedule.catch_up, "created_at": schedule.created_at, "next_time": schedule.next_time,
        "last_time": schedule.last_time, "last_run_id": schedule.last_run_id,
    }  # fmt: skip


def _upcoming(schedule: Schedule) -> list[float]:
    found: list[float] = []
    at = schedule.next_time
    while at is not None and len(found) < _UPCOMING:
        found.append(at)
        at = schedule.recurrence.next_after(at)
    return found


def _status(schedule: Schedule) -> str:
    return "paused" if schedule.paused else "active"


def _when(schedule: Schedule) -> str:
    when = schedule.recurrence
    return (
        f"{one_line(when.expression)} ({when.timezone})" if isinstance(when, Cron) else f"every {when.seconds:.12g} s"
    )


def _shown(schedule: Schedule, moment: float | None) -> str:
    return "-" if moment is None else schedule.recurrence.show(moment)


def _moment(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"--start: {text!r} is not a moment such as 2026-03-29T06:00:00Z") from None
    if moment.tzinfo is None:
        raise CommandError(f"--start: {text!r} has no offset from UTC; write for instance {text}Z")
    return moment.timestamp()
