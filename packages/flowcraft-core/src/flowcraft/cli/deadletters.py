"""``flowcraft deadletters``: what was given up."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from flowcraft.cli.failures import OK, CommandError, one_line
from flowcraft.cli.payload import to_json
from flowcraft.cli.results import moment, print_table
from flowcraft.cli.targets import store_of
from flowcraft.deadletters import DeadLetters
from flowcraft.errors import DeadLetterNotFound
from flowcraft.model import DeadLetter

__all__ = ["deadletters_command"]

#: So many bytes of a body are shown to people; `--json` has all of them.
_SHOWN: Final = 2000


async def deadletters_command(args: argparse.Namespace) -> int:
    """List dead letters, or show, replay or delete one."""
    if (args.action == "list") != (args.letter is None):
        told = "takes no ID" if args.action == "list" else "needs the ID of a dead letter: `deadletters list` tells it"
        raise CommandError(f"deadletters {args.action} {told}")
    async with store_of(args.app, args.url) as adapter:
        letters = adapter.dead_letters
        if args.action == "list":
            return await _list(letters, args)
        if args.action == "delete":
            return await _delete(letters, args)
        letter = await (letters.get if args.action == "show" else letters.replay)(args.letter)
        if args.json:
            print(to_json(_data(letter) if args.action == "show" else {"replayed": True, **_data(letter)}))
        elif args.action == "show":
            _show(letter)
        else:
            print(f"{letter.id}  replayed  {_about(letter)}")
        return OK


async def _list(letters: DeadLetters, args: argparse.Namespace) -> int:
    page = await letters.list(args.limit, args.after)
    if args.json:
        print(to_json({"dead_letters": [_data(letter) for letter in page.items], "after": page.after}))
        return OK
    table = [("ID", "GIVEN UP", "QUEUE", "WHAT", "REASON")]
    for letter in page.items:
        reason = one_line(letter.reason)
        short = reason if len(reason) <= 80 else reason[:79] + "…"
        table.append((one_line(letter.id), _when(letter), one_line(letter.queue), _about(letter), short))
    print_table(table)
    if page.after is not None:
        print(f"there are more: --after {page.after}", file=sys.stderr)
    return OK


async def _delete(letters: DeadLetters, args: argparse.Namespace) -> int:
    if not await letters.delete(args.letter):
        raise DeadLetterNotFound(f"there is no dead letter {args.letter[:200]!r}: list them again")
    print(to_json({"id": args.letter, "deleted": True}) if args.json else f"{one_line(args.letter)}  deleted")
    return OK


def _show(letter: DeadLetter) -> None:
    rows = [("id", letter.id), ("given up", _when(letter)), ("queue", letter.queue), ("reason", letter.reason)]
    job = letter.job
    if job is not None:
        rows += [("run", job.run_id), ("node", job.node), ("visit", f"{job.visit}, attempt {job.attempt}")]
    if letter.kind == "poisoned":
        rows.append(("deaths", str(letter.deaths)))
    for name, value in rows:
        print(f"{name:8}  {one_line(value)}")
    more = f" … and {len(letter.body) - _SHOWN:,} more bytes" if len(letter.body) > _SHOWN else ""
    print(f"body      {letter.body[:_SHOWN]!r}{more}")


def _data(letter: DeadLetter) -> dict[str, object]:
    job = letter.job
    about = {"run_id": job.run_id, "node": job.node, "visit": job.visit, "attempt": job.attempt} if job else None
    return {
        "id": letter.id, "kind": letter.kind, "queue": letter.queue, "reason": letter.reason, "at": letter.at,
        "deaths": letter.deaths, "job": about, "body": letter.body,
    }  # fmt: skip


def _when(letter: DeadLetter) -> str:
    return "unknown" if letter.at is None else moment(letter.at)


def _about(letter: DeadLetter) -> str:
    job = letter.job
    if job is None:
        return f"{len(letter.body):,} undecodable bytes"
    poisoned = f"poisoned ({letter.deaths} deaths) " if letter.kind == "poisoned" else ""
    return f"{poisoned}{one_line(job.run_id)}/{one_line(job.node)}#{job.visit}"
