"""``flowcraft status``, ``list``, ``cancel``, ``migrate-run`` and ``reconcile``: what goes on in a store."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import time

from flowcraft.adapter import Adapter
from flowcraft.blueprint import Blueprint
from flowcraft.cli.board import Board, seconds
from flowcraft.cli.failures import FAILED, OK, one_line
from flowcraft.cli.payload import to_json
from flowcraft.cli.results import moment, print_result, print_table, view_data
from flowcraft.cli.running import follow
from flowcraft.cli.screen import Screen, style_of
from flowcraft.cli.targets import adapter_of, load_target, store_of
from flowcraft.errors import Misconfigured, RunNotFound
from flowcraft.runstate import unpack_head

__all__ = [
    "cancel_command",
    "list_command",
    "migrate_run_command",
    "reconcile_command",
    "status_command",
    "stored_blueprint",
]


async def status_command(args: argparse.Namespace) -> int:
    """A run and its nodes, now or until it has ended."""
    async with store_of(args.app, args.url) as adapter:
        handle = adapter.run(args.run_id)
        view = await handle.view()
        if args.watch:
            await follow(handle, Screen())
            return print_result(await handle.result(), as_json=args.json)
        if args.json:
            print(to_json(view_data(args.run_id, view)))
            return OK
        board = Board(args.run_id, view.nodes, time.time())
        board.set_states({node.id: node.state for node in view.nodes.values()})
        told = ", ".join(f"{count} {state}" for state, count in board.counts().most_common())
        print(f"{one_line(args.run_id)}  {view.status}{f' ({view.cause})' if view.cause else ''}  {told}")
        style = style_of(sys.stdout)
        width = shutil.get_terminal_size().columns - 1
        for line in board.lines(board.started, width=max(width, 40), height=len(view.nodes) + 2, style=style)[1:]:
            print(line)
        return OK


async def list_command(args: argparse.Namespace) -> int:
    """Runs, newest first."""
    async with store_of(args.app, args.url) as adapter:
        page = await adapter.list(status=args.status, blueprint_id=args.flow, limit=args.limit, after=args.after)
        if args.json:
            rows = [
                {name: value for name, value in dataclasses.asdict(row).items() if name != "token"}
                for row in page.items
            ]
            print(to_json({"runs": rows, "after": page.after}))
            return OK
        table = [("RUN", "STATUS", "FLOW", "STARTED", "LAST CHANGE")]
        now = time.time()
        for row in page.items:
            ids = one_line(row.run_id), row.status, one_line(row.blueprint_id)
            table.append((*ids, moment(row.created_at), f"{seconds(max(0.0, now - row.updated_at))} ago"))
        print_table(table)
        if page.after is not None:
            print(f"there are more: --after {page.after}", file=sys.stderr)
        return OK


async def cancel_command(args: argparse.Namespace) -> int:
    """Cancel a run; one that has ended already stays as it is."""
    async with store_of(args.app, args.url) as adapter:
        handle = adapter.run(args.run_id)
        done = await handle.cancel(args.reason)
        status = await handle.status()
        if args.json:
            print(to_json({"run_id": args.run_id, "cancelled": done, "status": status}))
        else:
            print(f"{one_line(args.run_id)}  {status}" + ("" if done else " (it was ending or had ended already)"))
        return OK


async def migrate_run_command(args: argparse.Namespace) -> int:
    """Move a run to another blueprint."""
    target = load_target(args.target, args.registry)
    blueprint = target.blueprint(args.flow)
    async with adapter_of(target, args.url) as adapter:
        moved = await adapter.migrate_run(args.run_id, blueprint)
        if args.json:
            told = {"run_id": args.run_id, "migrated": moved, "flow": blueprint.id, "hash": blueprint.content_hash}
            print(to_json(told))
        else:
            version = f" (version {one_line(blueprint.version)})" if blueprint.version else ""
            what = "moved to" if moved else "is already on"
            print(f"{one_line(args.run_id)}  {what} {one_line(blueprint.id)}{version}")
        return OK


async def reconcile_command(args: argparse.Namespace) -> int:
    """Repair what seems stuck."""
    async with store_of(args.app, args.url) as adapter:
        stats = await adapter.reconciler(stalled_threshold_seconds=args.stalled_after).run()
        figures = dataclasses.asdict(stats)
        if args.json:
            print(to_json(figures))
        else:
            print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items()))
        return FAILED if stats.failed_runs else OK


async def stored_blueprint(adapter: Adapter, run_id: str) -> Blueprint:
    """The blueprint that a stored run is pinned to.

    Raises:
        RunNotFound: there is no such run. Misconfigured: the store has lost the blueprint.
    """
    stored = await adapter.store.load(run_id)
    if stored is None:
        raise RunNotFound(f"there is no run {run_id!r}: it never was, or its retention time is over")
    content_hash = unpack_head(stored.head)[0]
    data = await adapter.store.load_blueprint(content_hash)
    if data is None:
        raise Misconfigured(f"the blueprint {content_hash} of run {run_id!r} is not in the store")
    return Blueprint.from_json(data)
