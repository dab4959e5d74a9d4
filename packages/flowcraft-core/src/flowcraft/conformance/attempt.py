"""One check on one target: in a place of its own, with time of its own, and with an end."""

from __future__ import annotations

import asyncio
import random
import re
import secrets
from contextlib import AbstractAsyncContextManager
from typing import Final

from flowcraft.clock import SystemClock
from flowcraft.conformance.checks import Check
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import Blocked
from flowcraft.conformance.openings import Openings
from flowcraft.conformance.results import Finding, told
from flowcraft.conformance.target import Place, Ports, Target
from flowcraft.errors import AdapterError
from flowcraft.testing import VirtualClock

__all__ = ["attempt", "limit", "new_place"]

#: Seconds until a backend that cannot be opened, closed or dropped counts as unreachable.
_PATIENCE: Final = 60.0
#: Not the backend's behaviour, but that it is not there.
_UNREACHABLE: Final = (AdapterError, OSError)


def new_place(target: Target, name: str) -> Place:
    """A place that nobody has used, named after what it is for."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[-20:].strip("-")
    return Place(f"{slug}-{secrets.token_hex(8)}", VirtualClock() if target.virtual_time else SystemClock())


def limit(target: Target, check: Check) -> float:
    """The seconds of real time that a check has on a target: time passes really where it is not virtual."""
    return check.timeout if target.virtual_time else check.timeout + 100 * target.unit + 20 * target.settle


async def attempt(target: Target, check: Check) -> Finding:
    """Run a check, and remove all that it stored, whatever came of it."""
    place, openings = new_place(target, check.id), Openings()
    try:
        finding = await _opened(openings.counted(target), check, place)
    finally:
        removed = await _removed(target, place, openings)
    return removed if finding.outcome == "pass" else finding


async def _opened(target: Target, check: Check, place: Place) -> Finding:
    # Not `async with`: the check's exception must never reach the target's block, which could swallow it.
    opened = target.open(place)
    try:
        async with asyncio.timeout(_PATIENCE):
            ports = await opened.__aenter__()
    except Exception as error:  # noqa: BLE001 - it is the result
        return _trouble(error, "cannot be opened: ")
    try:
        finding = await _judged(check, Env(target, place, ports, random.Random(check.id)), limit(target, check))
    finally:
        closed = await _closed(opened)
    return closed if finding.outcome == "pass" else finding


async def _judged(check: Check, env: Env, seconds: float) -> Finding:
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            await check.run(env)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return told(error, before="nobody cancelled anything, but there came ")
    except Blocked as error:
        return told(error, "blocked")
    except Exception as error:  # noqa: BLE001 - it is the result
        return told(error, before=f"not within {seconds:g} s; {_waited(error)}" if deadline.expired() else "")
    return Finding("pass")


def _waited(error: Exception) -> str:
    """What was waited for when the time was over, if whoever waited noted it at the cancellation."""
    return "".join(f"{note}; " for note in getattr(error.__cause__, "__notes__", ()))


async def _closed(opened: AbstractAsyncContextManager[Ports]) -> Finding:
    try:
        async with asyncio.timeout(_PATIENCE):
            await opened.__aexit__(None, None, None)
    except Exception as error:  # noqa: BLE001 - it is the result
        return told(error, before="closing the ports raised ")
    return Finding("pass")


async def _removed(target: Target, place: Place, openings: Openings) -> Finding:
    try:
        async with asyncio.timeout(_PATIENCE):
            if target.drop is not None:
                await target.drop(place)
            left = await target.leftovers(place) if target.leftovers is not None else ()
    except Exception as error:  # noqa: BLE001 - it is the result
        return _trouble(error, "its place cannot be dropped: ")
    return Finding("fail", openings.told(left)) if left else Finding("pass")


def _trouble(error: Exception, before: str) -> Finding:
    return told(error, "blocked" if isinstance(error, _UNREACHABLE) else "fail", before)
