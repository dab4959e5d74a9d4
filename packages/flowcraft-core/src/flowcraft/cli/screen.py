"""Showing a board: redrawn in place on a terminal, plain lines anywhere else."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, TextIO

from flowcraft.cli.board import ASCII, FANCY, Board, Style
from flowcraft.model import Event

__all__ = ["Screen", "style_of"]

_PERIOD: Final = 0.1


def style_of(stream: TextIO) -> Style:
    """What this stream can show: characters by its encoding; colour only on a terminal, and never with NO_COLOR."""
    try:
        "✓━".encode(stream.encoding or "ascii")
        style = FANCY
    except (UnicodeEncodeError, LookupError):
        style = ASCII
    colour = _is_terminal(stream) and not os.environ.get("NO_COLOR")
    return dataclasses.replace(style, colour=colour)


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class Screen:
    """Where a board is shown, by default stderr: stdout is for what the command makes."""

    def __init__(
        self, stream: TextIO | None = None, *, quiet: bool = False, now: Callable[[], float] = time.time
    ) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._now = now
        self.live = _is_terminal(self._stream) and not quiet
        self.style = style_of(self._stream)
        self._drawn = 0
        self._board: Board | None = None
        self._lock = threading.Lock()  # blocking nodes print from their threads

    @asynccontextmanager
    async def showing(self, board: Board) -> AsyncGenerator[None]:
        """Show the board for as long as the block lasts; its last state stays on the screen."""
        self._board = board
        drawing = asyncio.create_task(self._redraw(board)) if self.live else None
        try:
            with self._others_above() if self.live else contextlib.nullcontext():
                yield
        finally:
            if drawing is not None:
                drawing.cancel()
                await asyncio.gather(drawing, return_exceptions=True)
                self.draw(board)
            self._drawn = 0
            self._board = None

    def tell(self, event: Event) -> None:
        """Take an event into the board, and where nothing is redrawn tell it as a line."""
        if self._board is not None:
            line = self._board.apply(event)
            if line is not None and not self.live and not self._quiet:
                print(line, file=self._stream, flush=True)

    async def _redraw(self, board: Board) -> None:
        while True:
            self.draw(board)
            await asyncio.sleep(_PERIOD)

    def draw(self, board: Board) -> None:
        """Show the board over what was drawn before."""
        size = shutil.get_terminal_size()
        lines = board.lines(self._now(), width=size.columns - 1, height=max(2, size.lines - 2), style=self.style)
        with self._lock:
            self._write(self._erase() + "\n".join(lines) + "\n")
            self._drawn = len(lines)

    def _erase(self) -> str:
        return f"\r\x1b[{self._drawn}A\x1b[J" if self._drawn else ""

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    @contextmanager
    def _others_above(self) -> Generator[None]:
        """What nodes print goes above the board instead of through it."""
        before = sys.stdout, sys.stderr
        above = {id(stream): _Above(stream, self) for stream in before if stream.isatty()}
        sys.stdout, sys.stderr = (above.get(id(stream), stream) for stream in before)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
            for stream in above.values():
                stream.end()

    def above(self, stream: TextIO, text: str) -> None:
        """Write whole lines above the board."""
        with self._lock:
            if self._drawn:
                self._write(self._erase())
                self._drawn = 0
            stream.write(text)
            stream.flush()


class _Above:
    """A terminal stream that writes whole lines above a board; what else is asked of it, its stream answers."""

    def __init__(self, stream: TextIO, screen: Screen) -> None:
        self._stream = stream
        self._screen = screen
        self._rest = ""

    def write(self, text: str) -> int:
        """Keep an unfinished line until its end comes."""
        whole, newline, self._rest = (self._rest + text).rpartition("\n")
        if newline:
            self._screen.above(self._stream, whole + newline)
        return len(text)

    def flush(self) -> None:
        """Lines are flushed as they are written."""

    def end(self) -> None:
        """Write what never got an end of line."""
        if self._rest:
            self._stream.write(self._rest)
            self._rest = ""

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)
