"""The two embedding examples, executed: a FastAPI service over ASGI (no network), and a plain program."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import httpx

Load = Callable[[str], ModuleType]


@asynccontextmanager
async def serving(service: ModuleType, path: Path) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of the application, inside its lifespan."""
    app = service.create_app(str(path))
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


async def test_fastapi_service(example: Load, tmp_path: Path) -> None:
    order = {"id": "order/7 ü", "items": {"apple": 2, "pear": 1}}
    async with serving(example("fastapi_service"), tmp_path / "orders.db") as client:
        placed = await client.post("/orders", json=order)
        assert (placed.status_code, placed.json()) == (202, {"run_id": "order/7 ü"})
        again = await client.post("/orders", json=order)
        assert again.json() == placed.json()
        order["id"] = "order-8"
        await client.post("/orders", json=order)
        receipt = await client.get("/orders/order-8/receipt", params={"timeout": 30})
        assert receipt.status_code == 200
        assert receipt.json() == {"order": "order-8", "total": 10, "payment": "payment order-8/charge/1"}
        assert (await client.get("/orders/order-8")).json() == {"run_id": "order-8", "status": "completed"}
        assert (await client.get("/healthz")).json() == {"healthy": True}


async def test_fastapi_service_refuses(example: Load, tmp_path: Path) -> None:
    async with serving(example("fastapi_service"), tmp_path / "orders.db") as client:
        await client.post("/orders", json={"id": "o", "items": {"apple": 1}})
        other = await client.post("/orders", json={"id": "o", "items": {"apple": 2}})
        assert other.status_code == 409
        assert (await client.get("/orders/nobody")).status_code == 404
        assert (await client.post("/orders", json={"id": "\x00", "items": {}})).status_code == 422
        assert (await client.post("/orders", json={"id": "p", "items": {"apple": -1}})).status_code == 422
        await client.post("/orders", json={"id": "q", "items": {"gold": 1}})
        failed = await client.get("/orders/q/receipt", params={"timeout": 30})
        assert failed.status_code == 502
        assert "price: KeyError: 'gold'" in failed.json()["detail"][0]


async def test_fastapi_service_keeps_what_was_done(example: Load, tmp_path: Path) -> None:
    service = example("fastapi_service")
    async with serving(service, tmp_path / "orders.db") as client:
        await client.post("/orders", json={"id": "o", "items": {"pear": 1}})
        first = (await client.get("/orders/o/receipt", params={"timeout": 30})).json()
    async with serving(service, tmp_path / "orders.db") as client:
        assert (await client.get("/orders/o/receipt")).json() == first


async def test_plain_program(example: Load, tmp_path: Path) -> None:
    program = example("plain_asyncio")
    for _ in range(2):
        outputs = await program.main(tmp_path / "greetings.db", ["Ada, Grace", ""])
        assert outputs == [["hello, Ada", "hello, Grace"], "there is nobody to greet"]
