"""A FastAPI service with a Flowcraft worker in its lifespan: one process, one SQLite file, nothing else to run.

``uvicorn fastapi_service:create_app --factory``. With several processes on one file each has a worker, and any of them
may execute a node; a crash loses nothing.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from flowcraft import Flow, FlowRuntime, NodeContext, Retry
from flowcraft.errors import DefinitionError, RunConflict, RunNotFound, Unavailable
from flowcraft.sqlite import SqliteAdapter


class Order(BaseModel):
    """What is ordered. The id is the caller's, so that it may send an order again after a timeout."""

    id: Annotated[str, Field(min_length=1, max_length=100)]
    items: dict[str, Annotated[int, Field(gt=0)]]


@dataclass(frozen=True)
class Receipt:
    """What the customer gets."""

    order: str
    total: int
    payment: str


class Bank:
    """Stands for a client of another service; it remembers keys, as a payment service does."""

    def __init__(self) -> None:
        self.paid: dict[str, int] = {}

    async def pay(self, amount: int, *, key: str) -> str:
        """Take the money, once per ``key``."""
        self.paid.setdefault(key, amount)
        return f"payment {key}"


@asynccontextmanager
async def open_bank() -> AsyncGenerator[Bank]:
    """The dependencies of the nodes: opened with the worker, closed with it."""
    yield Bank()


PRICES = {"apple": 3, "pear": 4}
flow = Flow[Bank]("order", version="1")


@flow.node
async def price(ctx: NodeContext[Order, Bank]) -> int:
    return sum(PRICES[item] * count for item, count in ctx.input.items.items())


@flow.node(after=price, retries=Retry(attempts=5, delay=1), timeout=30)
async def charge(ctx: NodeContext[int, Bank]) -> Receipt:
    payment = await ctx.deps.pay(ctx.input, key=ctx.idempotency_key)  # repeated perhaps, paid once
    return Receipt(ctx.run_id, ctx.input, payment)


def create_app(path: str | None = None) -> FastAPI:
    """The application. Whatever it opens, it opens and closes in its lifespan."""
    database = path or os.environ.get("ORDERS_DB", "orders.db")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        adapter = SqliteAdapter(FlowRuntime([flow], deps=open_bank), path=database)
        async with adapter, adapter.worker(concurrency=50, grace=20) as worker:
            app.state.flows, app.state.worker = adapter, worker
            yield

    app = FastAPI(title="orders", lifespan=lifespan)
    app.add_api_route("/orders", place, methods=["POST"], status_code=202)
    app.add_api_route("/orders/{run_id}", look, methods=["GET"])
    app.add_api_route("/orders/{run_id}/receipt", fetch, methods=["GET"])
    app.add_api_route("/healthz", health, methods=["GET"])
    for error, status in ((RunNotFound, 404), (RunConflict, 409), (DefinitionError, 422), (Unavailable, 503)):
        app.add_exception_handler(error, _answer(status))
    return app


def _answer(status: int) -> Any:
    async def answer(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=status)

    return answer


async def place(order: Order, request: Request) -> dict[str, str]:
    """Start a run. The same order again finds the same run; another order with its id is a conflict."""
    run = await _flows(request).start_run(flow, order, run_id=order.id)
    return {"run_id": run.run_id}


async def look(run_id: str, request: Request) -> dict[str, str]:
    """Where the run is."""
    return {"run_id": run_id, "status": await _flows(request).status(run_id)}


async def fetch(
    run_id: str, request: Request, timeout: Annotated[float, Query(ge=0, le=60)] = 10.0
) -> dict[str, object]:
    """Wait for the receipt, up to ``timeout`` seconds."""
    try:
        result = await _flows(request).result(run_id, timeout)
    except TimeoutError as error:
        raise HTTPException(504, "not yet; the run goes on") from error
    if result.status != "completed":
        raise HTTPException(502, [str(failure) for failure in result.errors])
    receipt: Receipt = result.output()
    return {"order": receipt.order, "total": receipt.total, "payment": receipt.payment}


async def health(request: Request) -> JSONResponse:
    """For the probe of an orchestrator."""
    healthy = request.app.state.worker.healthy
    return JSONResponse({"healthy": healthy}, status_code=200 if healthy else 503)


def _flows(request: Request) -> SqliteAdapter:
    adapter: SqliteAdapter = request.app.state.flows
    return adapter
