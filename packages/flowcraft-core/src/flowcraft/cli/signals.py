"""SIGINT and SIGTERM as events of the loop: the first asks to stop, the second not to wait any longer."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["Stop", "stop_signals"]


class Stop:
    """``asked``: stop in order; ``urged``: stop at once. Set by signals, or by `ask`."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.urged = asyncio.Event()

    def ask(self) -> None:
        """Once: stop in order; again: at once."""
        (self.urged if self.asked.is_set() else self.asked).set()


@contextmanager
def stop_signals() -> Generator[Stop]:
    """Catch both signals inside the block; only the main thread of a process can."""
    stop = Stop()
    loop = asyncio.get_running_loop()

    def from_outside(_number: int, _frame: object) -> None:
        loop.call_soon_threadsafe(stop.ask)

    caught = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in caught]
    for number in caught:
        try:
            loop.add_signal_handler(number, stop.ask)
        except NotImplementedError:  # Windows
            signal.signal(number, from_outside)
    try:
        yield stop
    finally:
        for number, handler in zip(caught, before, strict=True):
            with contextlib.suppress(NotImplementedError):  # Windows
                loop.remove_signal_handler(number)
            signal.signal(number, handler)
