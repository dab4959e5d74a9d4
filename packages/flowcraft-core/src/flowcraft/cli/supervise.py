"""``worker --processes N``: keeps N worker processes running, and ends with them.

Supervisor and workers are tied by a connection on 127.0.0.1: a worker tells over it how it is, and stops in order when
it breaks, so that no worker outlives a supervisor that was killed. Signals of the terminal reach the supervisor only;
it passes them on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

from flowcraft.cli.failures import INTERRUPTED, OK, USAGE, CommandError
from flowcraft.cli.signals import Stop

__all__ = ["TIE", "Supervisor", "tied_to_supervisor"]

#: Tells a worker process where its supervisor listens: ``port:number:token``.
TIE: Final = "FLOWCRAFT_SUPERVISOR"
_LOG = logging.getLogger("flowcraft.supervisor")
_FIRST_WAIT, _LONGEST_WAIT, _LONG_LIFE = 0.5, 30.0, 60.0
_REPORT_PERIOD: Final = 1.0


@dataclass(slots=True)
class _Place:
    """One of the N: the process that fills it now, and what it told last."""

    number: int
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    healthy: bool = False
    in_hand: int = 0


class Supervisor:
    """Runs ``command`` N times side by side. ``patience``: seconds that workers get to end before they are killed."""

    def __init__(
        self, command: Sequence[str], processes: int, *, patience: float, environment: Mapping[str, str] | None = None
    ) -> None:
        self._command = tuple(command)
        self._environment = dict(environment or {})
        self._places = [_Place(number + 1) for number in range(processes)]
        self._patience = patience
        self._token = secrets.token_hex(16)
        self._port = 0
        self._fatal: asyncio.Future[int] | None = None
        self._talks: set[asyncio.Task[Any]] = set()

    def health(self) -> tuple[bool, Mapping[str, object]]:
        """Healthy if every process is; see `flowcraft.cli.health`."""
        rows = [
            {
                "number": place.number,
                "pid": None if place.process is None else place.process.pid,
                "healthy": place.healthy,
                "in_hand": place.in_hand,
                "restarts": place.restarts,
            }
            for place in self._places
        ]
        return all(place.healthy for place in self._places), {"processes": rows}

    async def run(self, stop: Stop) -> int:
        """Until it is told to stop, or a worker says that it can never run. Returns the exit code."""
        self._fatal = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(self._listen, "127.0.0.1", 0)
        self._port = int(server.sockets[0].getsockname()[1])
        async with server:
            keepers = [asyncio.create_task(self._keep(place, stop)) for place in self._places]
            asked = asyncio.create_task(stop.asked.wait())
            try:
                ends: list[asyncio.Future[Any]] = [asked, self._fatal, *keepers]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                stop.asked.set()
                await self._end(keepers, stop)
            finally:
                await self._reap([asked, *keepers])
            for keeper in keepers:
                if not keeper.cancelled():
                    keeper.result()
        if self._fatal.done():
            return self._fatal.result()
        return INTERRUPTED if stop.urged.is_set() else OK

    async def _keep(self, place: _Place, stop: Stop) -> None:
        """Fill one place again and again."""
        wait = _FIRST_WAIT
        while not stop.asked.is_set():
            began = time.monotonic()
            place.process = process = await self._spawn(place)
            if stop.asked.is_set():
                _send(process, signal.SIGTERM)
            code = await process.wait()
            place.healthy, place.in_hand, place.process = False, 0, None
            if stop.asked.is_set():
                return
            if code == USAGE:  # it said why; starting it again would only repeat it
                self._give_up(code)
                return
            wait = _FIRST_WAIT if time.monotonic() - began > _LONG_LIFE else wait
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            _LOG.warning("worker %d (pid %d) ended: %s; another starts in %g s", place.number, process.pid, how, wait)
            await _first(stop.asked.wait(), asyncio.sleep(wait))
            wait = min(wait * 2, _LONGEST_WAIT)
            place.restarts += 1

    async def _spawn(self, place: _Place) -> asyncio.subprocess.Process:
        tie = f"{self._port}:{place.number}:{self._token}"
        return await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            env={**os.environ, **self._environment, TIE: tie},
            start_new_session=True,  # Ctrl-C reaches the supervisor only
        )

    def _give_up(self, code: int) -> None:
        if self._fatal is not None and not self._fatal.done():
            self._fatal.set_result(code)

    async def _end(self, keepers: Sequence[asyncio.Task[None]], stop: Stop) -> None:
        """Pass the signals on, and wait."""
        self._signal_all(signal.SIGTERM)
        everyone = asyncio.gather(*keepers, return_exceptions=True)
        await _first(everyone, stop.urged.wait(), asyncio.sleep(self._patience))
        if stop.urged.is_set():
            self._signal_all(signal.SIGTERM)
            await _first(everyone, asyncio.sleep(min(5.0, self._patience)))

    def _signal_all(self, number: signal.Signals) -> None:
        for place in self._places:
            if place.process is not None:
                _send(place.process, number)

    async def _reap(self, tasks: Sequence[asyncio.Task[Any]]) -> None:
        """Nothing is left behind, however this ends."""
        for place in self._places:
            if place.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    place.process.kill()
        waiting = [place.process.wait() for place in self._places if place.process is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*waiting, *tasks, return_exceptions=True)
        if self._talks:  # the other ends are gone: they end by themselves, unless a stranger called
            _, strangers = await asyncio.wait(self._talks, timeout=1.0)
            for talk in strangers:
                talk.cancel()

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What one worker tells, line by line."""
        place: _Place | None = None
        talk = cast("asyncio.Task[Any]", asyncio.current_task())
        self._talks.add(talk)
        try:
            hello = await _line(reader)
            if hmac.compare_digest(str(hello.get("token", "")).encode(), self._token.encode()):
                place = self._places[int(cast("int", hello["number"])) - 1]
            while place is not None:
                told = await _line(reader)
                place.healthy, place.in_hand = bool(told["healthy"]), int(cast("int", told["in_hand"]))
        except (OSError, EOFError, ValueError, LookupError, AttributeError, TypeError):
            pass  # the worker has ended, or it was none
        finally:
            self._talks.discard(talk)
            if place is not None:
                place.healthy = False
            writer.close()


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


async def _line(reader: asyncio.StreamReader) -> dict[str, object]:
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    return cast("dict[str, object]", json.loads(line))


async def _first(*waiting: Any) -> None:
    """Return when one of them has; the others are cancelled, a gathering of tasks is not."""
    tasks = [asyncio.ensure_future(each) for each in waiting]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            if isinstance(task, asyncio.Task):
                task.cancel()


@asynccontextmanager
async def tied_to_supervisor(stop: Stop, state: Callable[[], tuple[bool, int]]) -> AsyncGenerator[None]:
    """Inside a worker process: report how it is, and stop in order when the supervisor is gone.

    Raises:
        CommandError: the supervisor cannot be reached.
    """
    tie = os.environ.pop(TIE, None)  # what nodes start themselves is not tied
    if tie is None:
        yield
        return
    port, number, token = tie.split(":", 2)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    except OSError as error:
        raise CommandError(f"the supervisor is gone: {error}") from error
    writer.write(json.dumps({"token": token, "number": int(number)}).encode() + b"\n")

    async def report() -> None:
        with contextlib.suppress(OSError):
            while True:
                healthy, in_hand = state()
                writer.write(json.dumps({"healthy": healthy, "in_hand": in_hand}).encode() + b"\n")
                await writer.drain()
                await asyncio.sleep(_REPORT_PERIOD)

    async def listen() -> None:
        with contextlib.suppress(OSError):
            while await reader.read(1024):
                pass
        print("flowcraft: the supervisor is gone, stopping", file=sys.stderr)
        stop.asked.set()

    tasks = [asyncio.create_task(report()), asyncio.create_task(listen())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()
