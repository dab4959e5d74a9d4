"""``flowcraft inspect``: what happened in a run, when, and why; and how it stood at an earlier moment."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flowcraft.adapter import Adapter
from flowcraft.blueprint import Blueprint
from flowcraft.cli.board import Board, Style, clip, seconds
from flowcraft.cli.failures import OK, one_line
from flowcraft.cli.looking import stored_blueprint
from flowcraft.cli.payload import to_json
from flowcraft.cli.results import moment, view_data
from flowcraft.cli.screen import style_of
from flowcraft.cli.targets import store_of
from flowcraft.cli.timeline import Stretch, draw_timeline, longest, shown, stretches
from flowcraft.engine.view import RunView
from flowcraft.errors import FlowcraftError
from flowcraft.model import ErrorInfo, Event
from flowcraft.notes import LogRecord, Progress
from flowcraft.runs import RunHandle
from flowcraft.sealing import ENCRYPTED

__all__ = ["inspect_command"]

#: Without --all so many visits are drawn, retries listed and failures told …
_VISITS: Final = 40
_RETRIES: Final = 10
_FAILURES: Final = 5
_LONGEST: Final = 5
#: … and so many lines of a trace shown.
_TRACE: Final = 30


async def inspect_command(args: argparse.Namespace) -> int:
    """The timeline and the errors of a run, from its history; or its state after one event."""
    async with store_of(args.app, args.url) as adapter:
        handle = adapter.run(args.run_id)
        if args.at is not None:
            return await _inspect_at(adapter, handle, args.at, as_json=args.json)
        told = await _read(adapter, handle)
        logs, progress = (await handle.logs(), await handle.progress()) if args.logs else ((), {})
        if args.json:
            notes = {"logs": logs, "progress": progress} if args.logs else {}
            print(to_json({**told.to_dict(), **notes}))
            return OK
        width = max(60, shutil.get_terminal_size().columns - 1)
        for line in _lines(told, everything=args.all, width=width, style=style_of(sys.stdout)):
            print(line.rstrip())
        _print_notes(logs, progress)
        return OK


@dataclass(frozen=True, slots=True)
class _Told:
    """All that is shown of a run. ``errors``: those of each failure, in the order of the view's."""

    run_id: str
    blueprint: Blueprint
    view: RunView
    events: Sequence[Event]
    visits: Sequence[Stretch]
    errors: Sequence[Sequence[ErrorInfo]]

    @property
    def seconds(self) -> float:
        """From the first event to the last one."""
        return self.events[-1].at - self.events[0].at if self.events else 0.0

    def to_dict(self) -> Mapping[str, object]:
        failures = [
            {
                "node": failure.node_id,
                "visit": failure.visit,
                "absolved": failure.absolved,
                "errors": [error.to_dict() for error in errors],
            }
            for failure, errors in zip(self.view.failures, self.errors, strict=True)
        ]
        return {
            **view_data(self.run_id, self.view),
            "flow": self.blueprint.id,
            "seconds": round(self.seconds, 6),
            "failures": failures,
            "longest": [{"node": n, "took": round(took, 6), "visits": v} for n, took, v in longest(self.visits, 20)],
            "visits": [visit.to_dict() for visit in self.visits],
            "events": list(map(_event_data, self.events)),
        }


def _event_data(event: Event) -> Mapping[str, object]:
    return {
        "seq": event.seq, "type": event.type, "at": event.at, "node": event.node, "visit": event.visit,
        "attempt": event.attempt, "data": dict(event.data),
    }  # fmt: skip


async def _read(adapter: Adapter, handle: RunHandle) -> _Told:
    view = await handle.view()
    blueprint = await stored_blueprint(adapter, handle.run_id)
    events = await handle.history()
    keys = [key for failure in view.failures for key in failure.errors]
    values = await adapter.store.read_values(handle.run_id, keys) if keys else {}
    errors = [[_error(adapter, values[key]) for key in failure.errors if key in values] for failure in view.failures]
    visits = stretches(blueprint, events, time.time(), view.nodes)
    return _Told(handle.run_id, blueprint, view, events, visits, errors)


def _error(adapter: Adapter, data: bytes) -> ErrorInfo:
    """A stored error, or that this process has no key for it."""
    try:
        return ErrorInfo.from_dict(adapter.runtime.codec.decode(data))
    except FlowcraftError:
        return ErrorInfo(ENCRYPTED, "")


def _lines(told: _Told, *, everything: bool, width: int, style: Style) -> list[str]:
    lines = _summary(told)
    if not told.events:
        return lines
    drawn = shown(told.visits, len(told.visits) if everything else _VISITS)
    if drawn:
        lines += ["", *draw_timeline(drawn, width=width, style=style)]
    left = sum(bool(visit.spans) for visit in told.visits) - len(drawn)
    if left:
        lines.append(f"{style.more} and {left} more: --all shows them")
    skipped = [one_line(visit.node) for visit in told.visits if visit.state == "skipped"]
    if skipped:
        lines += ["", clip(f"skipped: {', '.join(skipped)}", max(width, 400), style.more)]
    return [
        *lines,
        *_longest(told, width, style),
        *_retries(told, everything, width, style),
        *_failures(told, everything),
    ]


def _summary(told: _Told) -> list[str]:
    blueprint, events = told.blueprint, told.events
    version = f" (version {one_line(blueprint.version)})" if blueprint.version else ""
    cause = f": {one_line(told.view.cause)}" if told.view.cause else ""
    lines = [
        f"run      {one_line(told.run_id)}",
        f"flow     {one_line(blueprint.id)}{version}, {len(blueprint.nodes)} nodes",
        f"status   {told.view.status}{cause}",
    ]
    if told.view.origin is not None:
        origin, node = told.view.origin
        lines.append(f"origin   runs again from {one_line(node)} of run {one_line(origin)}")
    if not events:
        return [*lines, "events   none: this store keeps no history"]
    ran, waited = sum(visit.took for visit in told.visits), sum(visit.waited for visit in told.visits)
    retries = sum(visit.attempt - 1 for visit in told.visits)
    fallbacks = sum(event.type == "node:fallback" for event in events)
    return [
        *lines,
        f"started  {moment(events[0].at)}, {seconds(told.seconds)} to the last event",
        f"visits   {len(told.visits)}: {seconds(ran)} running, {seconds(waited)} waiting for a worker",
        f"events   {len(events)}, {retries} retries, {fallbacks} fallbacks",
    ]


def _longest(told: _Told, width: int, style: Style) -> list[str]:
    rows = longest(told.visits, _LONGEST)
    if len(rows) < 2:
        return []
    total = sum(visit.took for visit in told.visits)
    lines = ["", "the longest nodes"]
    for node, took, visits in rows:
        times = f", {visits} visits, {seconds(took / visits)} each" if visits > 1 else ""
        name = clip(one_line(node), max(10, width - 19 - len(times)), style.more)
        lines.append(f"  {seconds(took):>9} {took / total:4.0%}  {name}{times}")
    return lines


def _retries(told: _Told, everything: bool, width: int, style: Style) -> list[str]:
    found = [event for event in told.events if event.type in ("node:retrying", "node:fallback", "node:parked")]
    if not found:
        return []
    listed = found if everything else found[:_RETRIES]
    lines = ["", "tried again, or put aside"]
    for event in listed:
        why = one_line(str(event.data.get("error") or event.data.get("reason") or ""))
        then = f"falls back to {event.data.get('fallback')}" if event.type == "node:fallback" else event.type[5:]
        took = event.data.get("took")
        after = f" after {seconds(float(took))}" if isinstance(took, int | float) else ""
        at = seconds(event.at - told.events[0].at)
        line = f"  {at:>9}  {one_line(str(event.node))}, attempt {event.attempt}{after}: {one_line(then)}"
        lines += [clip(line, width, style.more), clip(f"{'':13}{why}", width, style.more)]
    if len(listed) < len(found):
        lines.append(f"  {style.more} and {len(found) - len(listed)} more: --all shows them")
    return lines


def _failures(told: _Told, everything: bool) -> list[str]:
    found = list(zip(told.view.failures, told.errors, strict=True))
    listed = found if everything else found[:_FAILURES]
    lines: list[str] = []
    seen: set[str] = set()
    for failure, errors in listed:
        visit = f" (visit {failure.visit})" if failure.visit > 1 else ""
        made_up = " (made up for by a join)" if failure.absolved else ""
        for error in errors:
            lines += ["", f"failed: {one_line(failure.node_id)}{visit}{made_up}: {one_line(str(error))}"]
            lines += ["    (the trace is that of another one above)"] if error.trace in seen else _trace(error)
            if error.trace:
                seen.add(error.trace)
    if len(listed) < len(found):
        lines += ["", f"and {len(found) - len(listed)} more failures: --all shows them"]
    return lines


def _trace(error: ErrorInfo) -> list[str]:
    lines = ["".join(c if c.isprintable() else " " for c in line).rstrip() for line in error.trace.splitlines()]
    if len(lines) > _TRACE:
        lines = [f"  ({len(lines) - _TRACE} lines left out)", *lines[-_TRACE:]]
    return [f"    {line}" for line in lines]


def _print_notes(logs: Sequence[LogRecord], progress: Mapping[str, Progress]) -> None:
    if progress:
        print()
    for node, last in progress.items():
        print(f"progress of {one_line(node)}: {last.share:.0%} {one_line(last.text)}".rstrip())
    if logs:
        print()
    for record in logs:
        tries = f", attempt {record.attempt}" if record.attempt > 1 else ""
        where = f"{one_line(record.node_id)}" + (f" #{record.visit}" if record.visit > 1 else "") + tries
        print(f"{moment(record.at)}  {record.level:<8}  {where}: {one_line(record.message)}")


async def _inspect_at(adapter: Adapter, handle: RunHandle, seq: int, *, as_json: bool) -> int:
    view = await handle.state_at(seq)
    event = (await adapter.store.read_events(handle.run_id, seq - 1, 1)).items[0]
    if as_json:
        print(to_json({**view_data(handle.run_id, view), "event": _event_data(event)}))
        return OK
    board = Board(handle.run_id, view.nodes, event.at)
    board.set_states({node.id: node.state for node in view.nodes.values()})
    told = ", ".join(f"{count} {state}" for state, count in board.counts().most_common())
    what = event.type + (f" {one_line(event.node)}" if event.node else "")
    print(f"{one_line(handle.run_id)}  after event {seq} ({what}, {moment(event.at)})")
    print(f"{view.status}{f' ({one_line(view.cause)})' if view.cause else ''}  {told}")
    width = max(shutil.get_terminal_size().columns - 1, 40)
    for line in board.lines(event.at, width=width, height=len(view.nodes) + 2, style=style_of(sys.stdout))[1:]:
        print(line)
    return OK
