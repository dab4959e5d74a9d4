"""The supervisor: starts workers and a client, strikes workers at random moments, replaces them, gathers the evidence."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .backends import Site, site
from .checker import Evidence, Verdict, judge
from .evidence import Strike, read_executions, read_lines
from .gathering import gather
from .processes import Process, spawn
from .settings import Settings, Signal
from .shapes import Order, draw
from .weather import Weather

__all__ = ["Campaign", "Outcome"]

_STEP = 0.01


@dataclass
class Outcome:
    """What a campaign came to."""

    settings: Settings
    orders: list[Order]
    evidence: Evidence
    verdict: Verdict
    seconds: float
    #: Starts that the killed client had begun and not seen the end of; how many of these runs existed already.
    cut_starts: int = 0
    cut_existed: int = 0
    echoes: int = 0
    after_last_strike: float = 0.0
    #: The backend, with its version.
    product: str = ""


class Campaign:
    """One campaign. ``tell`` is called now and then with how it stands."""

    def __init__(self, settings: Settings, tell: Callable[[str], None] = lambda _: None) -> None:
        self.settings = settings
        self._tell = tell
        self._random = random.Random(settings.seed)
        self._orders = draw(settings)
        self._workers: list[Process] = []
        self._client: Process | None = None
        self._clients = 0
        self._names = 0
        self._strikes: list[Strike] = []
        self._landed = 0
        self._troubles: list[str] = []
        self._cut: list[str] = []
        self._seen: dict[str, int] = {"started": 0, "ended": 0, "all": 0, "echo": 0}
        self._offsets: dict[Path, int] = {}
        self._told = 0.0

    def run(self) -> Outcome:
        """Run it to the end and judge it."""
        began = time.monotonic()
        plan = [(order.run_id, order.blueprint.to_dict(), order.input) for order in self._orders]
        self.settings.place.joinpath("plan.json").write_text(json.dumps(plan), encoding="utf-8")
        self.settings.save()
        with site(self.settings) as self._site:
            self._weather = Weather(self._site, self.settings.faults, self.settings.seed, self._pause)
            try:
                self._workers = [self._start_worker() for _ in range(self.settings.processes)]
                self._start_client()
                self._wait_for_all()
                last = self._play(time.monotonic())
                ended = time.monotonic()
                self._drain()
            finally:
                self._kill_all()
            return self._judge(began, last, ended)

    _site: Site
    _weather: Weather

    def _wait_for_all(self) -> None:
        """Until everybody works: on a busy machine starting takes its time, and who is not there cannot be hurt."""
        until = time.monotonic() + self.settings.patience
        while not all(process.ready for process in self._everybody()) and time.monotonic() < until:
            self._look_after(time.monotonic())
            time.sleep(_STEP)  # between two looks at the processes

    def _everybody(self) -> list[Process]:
        return [*self._workers, *([self._client] if self._client else [])]

    # ---- the play

    def _play(self, began: float) -> float:
        """Until every run has ended, or patience has. Returns when the last strike was."""
        settings, source = self.settings, self._random
        starts = sorted(source.random() for _ in self._orders)
        whole_fleet_at = settings.strikes // 2
        client_at = settings.strikes // 3 if settings.signal == "KILL" and settings.strikes else -1
        next_strike = began + settings.every * (0.5 + source.random())
        duration = settings.strikes * settings.every or max(3.0, settings.runs / 20)
        last = began
        allowed = 0
        while not self._seen["all"]:
            now = time.monotonic()
            going = self._landed < settings.strikes and self._seen["ended"] < len(self._orders)
            if going and now >= next_strike:
                everybody = settings.signal == "KILL" and self._landed == whole_fleet_at
                for process in self._whole_fleet() if everybody else self._victim():
                    self._strike(process, settings.signal)
                    next_strike = now + settings.every * 2 * source.random()
                    last = now
            share = (now - began) / duration
            if going:  # keep some for the last strikes, but always give the workers something to do
                share = min(share, (self._landed + 1) / settings.strikes)
            idle = allowed + 5 if self._seen["ended"] >= allowed else 0
            allowed = min(len(starts), max(allowed, idle, 5 + sum(at <= share for at in starts)))
            if 0 <= client_at <= self._landed and not self._cut:
                client_at += 1  # once more with the next strike, should it have had no start under way
                allowed = min(len(starts), allowed + 10)
                self._cut_client(allowed)
            self._pace(allowed)
            if self._weather.look(share, self._names_of_all()):
                last = now
            self._look_after(now)
            self._show(now, began)
            if now - max(last, began + duration) > settings.patience:
                break
            time.sleep(_STEP)  # between two looks at the processes
        self._weather.clear()
        return last

    def _victim(self) -> list[Process]:
        """One that can be struck; mostly one that is executing something, if there is one now, after a random moment."""
        able = [process for process in self._workers if process.able and process.ready]
        if self._random.random() < 0.8:
            able = [process for process in able if process.going_on]
            time.sleep(self._random.random() * 0.05)  # a random moment of what it executes is wanted
        return [self._random.choice(able)] if able else []

    def _whole_fleet(self) -> list[Process]:
        """All of them, once all are at work: who is still starting would only start once more."""
        return list(self._workers) if all(process.able and process.ready for process in self._workers) else []

    def _pause(self) -> bool:
        """Let one stand still beyond its leases, whatever signal the campaign has."""
        able = [process for process in self._workers if process.able and process.going_on]
        if able:
            self._strike(self._random.choice(able), "STOP")
        return bool(able)

    def _names_of_all(self) -> list[str]:
        return [process.name for process in self._everybody() if process.popen.poll() is None]

    def _strike(self, process: Process, name: Signal) -> None:
        if not process.able:
            return
        if name == "TERM" and not process.ready:
            return  # its handler may not be there yet
        strike = Strike(name, process.name, time.monotonic(), time.time())
        process.popen.send_signal(getattr(signal, f"SIG{name}"))
        process.struck = strike
        process.looks = []
        if name == "KILL":
            process.popen.wait()
            strike.until = time.monotonic()
        elif name == "STOP":
            process.resume_at = strike.at + self.settings.lease_ttl * (1.3 + 2.7 * self._random.random())
        self._strikes.append(strike)
        if name == self.settings.signal:
            self._landed += any(map(strike.hit, read_executions(process.journal)))

    def _look_after(self, now: float) -> None:
        """Replace the dead, wake the paused."""
        for place, process in enumerate(self._workers):
            strike = process.struck
            if strike is not None and strike.signal == "STOP":
                if now < process.resume_at:
                    process.looks.append(self._site.locked())
                else:
                    process.popen.send_signal(signal.SIGCONT)
                    strike.until = time.monotonic()
                    strike.locked = len(process.looks) > 5 and sum(process.looks) > 0.9 * len(process.looks)
                    process.struck = None
            code = process.popen.poll()
            if code is None:
                continue
            self._note_end(process, code)
            self._workers[place] = self._start_worker()
        client = self._client
        if client is not None and (code := client.popen.poll()) not in (None, 0):
            self._troubles.append(client.ended_with(code))
            self._start_client()

    def _note_end(self, process: Process, code: int) -> None:
        strike = process.struck
        expected = {"KILL": -signal.SIGKILL, "TERM": 0}.get(strike.signal if strike else "")
        if strike is not None:
            strike.until = strike.until or time.monotonic()
            strike.code = code
        if code != expected:
            self._troubles.append(process.ended_with(code, f", not {expected}"))

    def _cut_client(self, allowed: int) -> None:
        """Kill the client while it starts a dozen runs, and let another one take over."""
        client = self._client
        if client is None:
            return
        began = time.monotonic()
        before = client.count('"starting"')
        self._pace(allowed)
        while time.monotonic() - began < 5.0 and client.count('"starting"') == before:
            time.sleep(0.0002)  # between two looks
        time.sleep(self._random.random() * 0.012)  # a random moment of the start is wanted
        client.popen.kill()
        client.popen.wait()
        lines = client.lines()
        started = {line["run"] for line in lines if line["what"] == "started"}
        self._cut = [line["run"] for line in lines if line["what"] == "starting" and line["run"] not in started]
        self._seen = {**self._seen, "started": 0, "ended": 0}
        self._start_client()

    def _drain(self) -> None:
        """Let the workers take the last stale messages, then leave in order."""
        until = time.monotonic() + 2 * self.settings.visibility + 5
        for process in self._workers:
            if process.struck is not None and process.struck.signal == "STOP":
                process.popen.send_signal(signal.SIGCONT)
                process.struck.until = time.monotonic()
        while self._messages_left() and time.monotonic() < until:
            time.sleep(0.05)  # between two looks at the queue
        for process in self._workers:
            while process.popen.poll() is None and not process.ready:
                time.sleep(0.02)  # between two looks at the journal
            if process.struck is None or process.struck.signal != "TERM":
                process.popen.send_signal(signal.SIGTERM)
        for process in self._workers:
            try:
                code = process.popen.wait(self.settings.grace + 30)
            except subprocess.TimeoutExpired:
                self._troubles.append(f"{process.name} does not end after SIGTERM")
                continue
            if code != 0:
                self._troubles.append(process.ended_with(code, " after SIGTERM"))

    def _messages_left(self) -> int:
        """Those that should be gone: a repeated one that met a lease comes back when half of it is over."""
        late = self.settings.echoes and self.settings.calm
        return self._site.messages_left() if self._seen["all"] and not late else 0

    # ---- processes

    def _start_worker(self) -> Process:
        self._names += 1
        return self._spawn("worker", f"worker-{self._names}")

    def _start_client(self) -> None:
        if self._client is not None:
            self._client.close()
        self._clients += 1
        self._sent = -1
        self._client = self._spawn("client", f"client-{self._clients}")

    def _spawn(self, module: str, name: str) -> Process:
        return spawn(self.settings, module, name, self._site.address(name))

    def _pace(self, allowed: int) -> None:
        client = self._client
        if client is not None and allowed != self._sent:
            self._sent = allowed
            client.tell(str(allowed))

    def _kill_all(self) -> None:
        for process in self._everybody():
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGCONT)
                process.popen.kill()
            process.popen.wait()
            process.close()

    # ---- what is seen meanwhile

    def _show(self, now: float, began: float) -> None:
        if now - self._told < 0.1 or self._client is None:
            return
        self._told = now
        path = self._client.journal
        if path.exists():
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                complete = file.read().rpartition(b"\n")[0]
                self._offsets[path] = self._offsets.get(path, 0) + len(complete) + bool(complete)
            for line in complete.splitlines():
                what = json.loads(line)["what"] if line else ""
                self._seen[what] = self._seen.get(what, 0) + 1
        seen = self._seen
        self._tell(
            f"{now - began:6.1f} s  {seen['started']:4d} of {len(self._orders)} runs started, {seen['ended']:4d} ended, "
            f"{self._landed:3d} of {self.settings.strikes} strikes landed"
            + (f", {self._weather.done} of {planned} faults" if (planned := self._weather.planned) else "")
        )

    # ---- the end

    def _judge(self, began: float, last: float, ended: float) -> Outcome:
        client_lines = [line for path in self.settings.place.glob("client-*.journal") for line in read_lines(path)]
        evidence = asyncio.run(
            gather(
                self.settings, self._orders, self._site.address(""),
                started={line["run"] for line in client_lines if line["what"] == "started"}, strikes=self._strikes,
                outages=self._weather.outages, troubles=self._troubles, messages_left=self._messages_left(),
            )
        )  # fmt: skip
        verdict = judge(self.settings, evidence)
        for order in self._orders:
            if order.run_id not in evidence.started:
                verdict.broken("every run is started", order.run_id)
        existed = {line["run"]: line["existed"] for line in client_lines if line["what"] == "starting"}
        return Outcome(
            self.settings, self._orders, evidence, verdict, ended - began,
            cut_starts=len(self._cut), cut_existed=sum(bool(existed.get(run)) for run in self._cut),
            echoes=sum(line["what"] == "echo" for line in client_lines),
            after_last_strike=ended - last if self._strikes or self._weather.outages else 0.0,
            product=self._site.product,
        )  # fmt: skip
