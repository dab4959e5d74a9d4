"""The adapter: any queue with any store, put together. Applications embed it; backends wire their parts into it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Final, Protocol, Self

from flowcraft.blueprint import Blueprint, Node
from flowcraft.children import Children
from flowcraft.client import Client
from flowcraft.committer import Committer
from flowcraft.deadletters import DeadLetters, retry_failed
from flowcraft.duerows import Taken
from flowcraft.endpoints import Endpoints
from flowcraft.engine.draft import Times
from flowcraft.errors import InvalidRequest
from flowcraft.facade import Facade
from flowcraft.firing import Firing
from flowcraft.folding import Rules
from flowcraft.leases import StoreLeases
from flowcraft.limits import Limits
from flowcraft.migration import Migration
from flowcraft.model import Page, RunStatus, RunSummary
from flowcraft.options import AdapterOptions
from flowcraft.ports import CoordinationStore, EventBus, JobQueue, RunStore
from flowcraft.reconciler import Reconciler
from flowcraft.registry import Definition
from flowcraft.rerunning import Reruns
from flowcraft.results import RunResult
from flowcraft.runs import RunAccess, RunHandle
from flowcraft.runstate import Graphs, RuntimeParts, StoreTime
from flowcraft.schedules import Schedules
from flowcraft.ticker import Ticker
from flowcraft.worker import Worker, WorkerOptions

__all__ = ["Adapter", "AdapterOptions"]

_CLOSED: Final = "the adapter is not open: use `async with adapter:`"


class _Closable(Protocol):
    async def aclose(self) -> None: ...


class Adapter(Facade):
    """A runtime, distributed: ``async with Adapter(runtime, queue=…, store=…) as adapter``.

    Opens nothing before the block and leaves nothing behind it. Any number of adapters in any number of processes may
    share the same queue and store.

    Args:
        runtime: the blueprints and functions of this process.
        queue, store: the ports; ``coordination`` keeps leases, by default in the run store itself; ``events`` is for
            live views and makes waiting for results quick.
        options: see `AdapterOptions`; its fields can be given by name here, too.
        owned: ports to be closed at the end of the block, in this order; all others belong to the caller.
    """

    def __init__(
        self,
        runtime: RuntimeParts,
        *,
        queue: JobQueue,
        store: RunStore,
        coordination: CoordinationStore | None = None,
        events: EventBus | None = None,
        options: AdapterOptions | None = None,
        owned: Sequence[_Closable] = (),
        **named: Any,
    ) -> None:
        if options is not None and named:
            raise InvalidRequest("give options, or its fields by name, not both")
        self.runtime = runtime
        self._mint: Callable[[], str] = partial(runtime.token_hex, 8)
        self.options = options or AdapterOptions(**named)
        self.queue = queue
        self.store = store
        self.coordination: CoordinationStore = coordination or StoreLeases(store, runtime.clock, mint=self._mint)
        self.events = events
        self._owned = tuple(owned)
        self._limits = Limits(self.options.queue_limits)
        self._bound = store.bind(queue)
        self._open: AsyncExitStack | None = None
        self._started: AsyncExitStack | None = None
        self._committer: Committer | None = None
        self._taken = Taken(runtime.clock)
        self._client: Client | None = None
        self._children: Children | None = None
        self._endpoints: Endpoints | None = None
        self._reruns: Reruns | None = None

    # ---- the block

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Create what is missing in the backends, and get ready; the block does it. May be repeated."""
        if self._open is not None:
            return
        async with AsyncExitStack() as stack:
            for port in reversed(self._owned):  # a stack closes backwards
                stack.push_async_callback(port.aclose)
            await self.store.setup()
            await self.queue.setup()
            await self.coordination.setup()
            committer = self._build_committer()
            stack.push_async_callback(committer.aclose)
            if self._children is not None:
                stack.push_async_callback(self._children.aclose)
            self._open = stack.pop_all()

    async def close(self) -> None:
        """Stop what was started, finish commits that are under way, close owned ports. May be repeated."""
        await self.stop()
        stack, self._open = self._open, None
        self._committer = self._client = self._children = self._endpoints = self._reruns = None
        if stack is not None:
            await stack.aclose()

    def _build_committer(self) -> Committer:
        runtime, options = self.runtime, self.options
        graphs = Graphs(runtime, self.store)
        self._committer = committer = Committer(
            self.store,
            self.queue,
            self.coordination,
            graphs=graphs,
            codec=runtime.codec,
            clock=runtime.clock,
            time=StoreTime(self.store, runtime.clock),
            rules=Rules(
                options.queue_name,
                options.retention,
                Times(options.resend_after, options.drain_grace),
                self._bound,
                self.store.capabilities,
                runtime.codec,
            ),
            events=self.events,
            mint=self._mint,
        )
        access = RunAccess(committer, self.store, self.events, runtime.codec, runtime.clock, graphs, runtime.names_of,
                           runtime.payload_of)  # fmt: skip
        self._client = Client(runtime, access, store=self.store, queue=self.queue, events=self.events, mint=self._mint)
        self._reruns = Reruns(self._client, access, self.store)
        self._children = children = Children(self._client, committer, runtime.clock)
        self._endpoints = Endpoints(
            self._client, committer, self.store, runtime.codec, base_url=options.webhook_base_url, others=children
        )
        return committer

    # ---- workers

    @asynccontextmanager
    async def worker(
        self,
        *,
        concurrency: int = 50,
        grace: float = 20.0,
        queues: Sequence[str] | None = None,
        max_deliveries: int = 5,
        ticker: bool = True,
    ) -> AsyncGenerator[Worker]:
        """A worker, and its ticker, for as long as the block lasts.

        Args:
            concurrency: how many visits it may have in hand.
            grace: seconds that running visits get to finish on the way out; the rest is handed back.
            queues: the queues it serves, by default that of the options.
            max_deliveries: executions of one visit that may vanish without an outcome before its node fails.
            ticker: whether it repairs and wakes runs, too; at least one worker must.
        """
        committer = self._ready()[0]
        served = tuple(queues) if queues is not None else (self.options.queue_name,)
        options = WorkerOptions(served, concurrency, grace, self.options.lease_ttl, max_deliveries)
        async with self.runtime.open_executor() as executor:
            side: list[Callable[[], Any]] = []
            clockwork = self.ticker(executor.can_run)
            if ticker:
                side.append(clockwork.run)
            if isinstance(self.coordination, StoreLeases):
                side.append(self.coordination.run)
            made = Worker(
                options, committer, executor,
                store=self.store, queue=self.queue, coordination=self.coordination, codec=self.runtime.codec,
                clock=self.runtime.clock, events=self.events, limits=self._limits, side_tasks=side,
                owner=self._mint(), children=self._endpoints,
            )  # fmt: skip
            clockwork.serve(made)
            async with made as running:
                yield running

    async def start(self, *, concurrency: int = 50, grace: float = 20.0, queues: Sequence[str] | None = None) -> Worker:
        """Start a worker that `stop` ends: for applications without a block to put `worker` into. Opens the adapter."""
        if self._started is not None:
            raise InvalidRequest("this adapter has been started already")
        await self.open()
        async with AsyncExitStack() as stack:
            worker = await stack.enter_async_context(self.worker(concurrency=concurrency, grace=grace, queues=queues))
            self._started = stack.pop_all()
        return worker

    async def stop(self) -> None:
        """End what `start` started: running visits finish within their grace, the rest is handed back."""
        stack, self._started = self._started, None
        if stack is not None:
            await stack.aclose()

    def ticker(self, can: Callable[[Node], bool] | None = None) -> Ticker:
        """A ticker of its own, for a process without a worker; ``can`` tells which parked nodes it may wake."""
        committer, client = self._ready()
        clock, interval = self.runtime.clock, self.options.tick
        firing = Firing(
            self.schedules, client, self.store, clock, codec=self.runtime.codec, interval=interval, mint=self._mint
        )
        return Ticker(
            committer, store=self.store, queue=self.queue, coordination=self.coordination,
            clock=clock, lease_ttl=self.options.lease_ttl, interval=interval, can=can or _nothing,
            chores=(firing.fire, client.keys.tidy), taken=self._taken,
            look_after=None if self._children is None else self._children.look_after,
            look_up=None if self._children is None else self._children.look_up,
        )  # fmt: skip

    def reconciler(self, *, stalled_threshold_seconds: float | None = None) -> Reconciler:
        """A repair by hand, with figures; every worker's ticker does the same by itself."""
        threshold = stalled_threshold_seconds
        threshold = self.options.stalled_threshold_seconds if threshold is None else threshold
        return Reconciler(
            self._ready()[0], store=self.store, coordination=self.coordination, stalled_threshold_seconds=threshold
        )

    # ---- runs

    async def start_run(
        self,
        flow: Definition | Blueprint | str,
        input: object = None,
        *,
        run_id: str | None = None,
        context: Mapping[str, object] | None = None,
        dedup_key: str | None = None,
        dedup_window: float | None = None,
    ) -> RunHandle:
        """Start a run; see `flowcraft.client.Client.start_run`."""
        client = self._ready()[1]
        return await client.start_run(
            flow, input, run_id=run_id, context=context, dedup_key=dedup_key, dedup_window=dedup_window
        )

    @property
    def schedules(self) -> Schedules:
        """Flows that are started by themselves, at times; see `flowcraft.schedules.Schedules`."""
        committer, client = self._ready()
        return Schedules(self.runtime, client, self.store, committer.time, mint=self._mint)

    @property
    def endpoints(self) -> Endpoints:
        """The webhooks of this adapter; see `flowcraft.endpoints.Endpoints`."""
        if self._endpoints is None:
            raise InvalidRequest(_CLOSED)
        return self._endpoints

    @property
    def reruns(self) -> Reruns:
        """What makes runs of runs; see `rerun`."""
        if self._reruns is None:
            raise InvalidRequest(_CLOSED)
        return self._reruns

    def run(self, run_id: str) -> RunHandle:
        """The handle of a run, whoever started it; nothing is asked."""
        return self._ready()[1].handle(run_id)

    async def status(self, run_id: str) -> RunStatus:
        """The status of a run. Raises RunNotFound."""
        return await self.run(run_id).status()

    async def result(self, run_id: str, timeout: float | None = None) -> RunResult:
        """Wait for a run; see `RunHandle.result`."""
        return await self.run(run_id).result(timeout)

    async def cancel(self, run_id: str, reason: str = "") -> bool:
        """Cancel a run; see `RunHandle.cancel`."""
        return await self.run(run_id).cancel(reason)

    async def migrate_run(self, run_id: str, to: Definition | Blueprint | str) -> bool:
        """Move a run that goes on to another blueprint; False if it is on that one already.

        What has happened stays: nodes that are settled or active keep their states and values, so the new blueprint
        must have them. A node that is READY keeps its message, and an outcome of it counts whichever version made it.
        Nodes that are pending may be added, changed and left out. Marks stay with edges of the same source, target and
        action; an edge that is new and whose source has completed is LIVE if it has no condition and no action.

        Raises:
            MigrationRefused: the run has ended or is ending, or the new blueprint lacks or contradicts what has
            happened: the error names the nodes. RunNotFound: there is no such run. DefinitionError: see `start_run`.
        """
        committer = self._ready()[0]
        migration = Migration(
            self.runtime, committer, store=self.store, queue=self.queue, coordination=self.coordination,
            events=self.events, mint=self._mint,
        )  # fmt: skip
        return await migration.run(run_id, to)

    async def list(
        self,
        *,
        status: RunStatus | None = None,
        blueprint_id: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[RunSummary]:
        """Runs, newest first; see `flowcraft.client.Client.list`."""
        return await self._ready()[1].list(status=status, blueprint_id=blueprint_id, limit=limit, after=after)

    @property
    def dead_letters(self) -> DeadLetters:
        """What was given up: messages and poisoned visits; see `flowcraft.deadletters.DeadLetters`."""
        return DeadLetters(self.queue, self.store, partial(retry_failed, self._ready()[0]))

    def _ready(self) -> tuple[Committer, Client]:
        if self._committer is None or self._client is None:
            raise InvalidRequest(_CLOSED)
        return self._committer, self._client


def _nothing(_: Node) -> bool:
    """A process without functions wakes no parked node."""
    return False
