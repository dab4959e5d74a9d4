"""Clusters, Sentinel and TLS: small ones of our own."""

from __future__ import annotations

import datetime as dt
import ipaddress
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ConnectionError as Disconnected

from flowcraft.errors import Misconfigured
from flowcraft_redis import RedisAdapter, RedisBackend

from .conftest import MakeServer
from .flows import INPUTS, runtime
from .making import event
from .server import Server, free_port, three_nodes
from .test_clients import everything_works
from .waiting import until


async def flows_work(backend_url: str, prefix: str, **options: int) -> None:
    """Each flow, with a worker."""
    adapter = RedisAdapter(runtime(), url=backend_url, prefix=prefix, tick=0.2, **options)
    async with adapter, adapter.worker(concurrency=20):
        runs = [(name, await adapter.start_run(name, value)) for name, value in INPUTS.items()]
        for name, run in runs:
            result = await run.result(timeout=30)
            expected = await runtime().run(name, INPUTS[name])
            assert (result.status, result.outputs) == (expected.status, expected.outputs), name


@pytest.fixture
def cluster(make_server: MakeServer) -> list[Server]:
    """Three nodes, each with a third of the slots."""
    return three_nodes(make_server)


async def test_a_cluster_by_its_address(cluster: list[Server], prefix: str) -> None:
    address = f"{cluster[0].url}?cluster=true"
    await flows_work(address, prefix, partitions=4)
    async with RedisBackend.open(address, prefix=prefix + "-ports", partitions=4) as backend:
        await everything_works(backend)
        async with backend.events.subscribe() as events:
            told = [event(f"run {number}", 1) for number in range(50)]
            await backend.events.publish(told)
            assert [await anext(events) for _ in told] == told, "whichever nodes have their channels"
    holders = 0
    for node in cluster:
        async with Redis.from_url(node.url) as client:
            holders += bool([name async for name in client.scan_iter(f"*{prefix}:*:queue:*")])
    assert holders >= 2, "the partitions are on several nodes"


async def test_a_cluster_by_a_client(cluster: list[Server], prefix: str) -> None:
    async with RedisCluster.from_url(cluster[1].url, decode_responses=True) as client:
        async with RedisBackend.open(client, prefix=prefix, partitions=3) as backend:
            await everything_works(backend)
        assert await client.ping()


async def test_a_node_of_a_cluster_is_no_single_server(cluster: list[Server], prefix: str) -> None:
    prefixes = iter(f"{prefix}-{number}" for number in range(50))

    async def open_many() -> None:
        for one in prefixes:  # some of their keys are on other nodes
            async with RedisBackend.open(cluster[0].url, prefix=one):
                pass

    with pytest.raises(Misconfigured, match="cluster=true"):
        await open_many()


async def test_sentinel_finds_the_new_master(make_server: MakeServer, prefix: str, tmp_path: Path) -> None:
    master, replica = make_server(), make_server()
    master.start()
    replica.start("--replicaof", "127.0.0.1", str(master.port))
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"sentinel monitor shop 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds shop 500\nsentinel failover-timeout shop 3000\n"
    )
    watch = Server(str(configuration), tmp_path, "--sentinel")
    watch._command = [make_server()._command[0], str(configuration), "--sentinel", "--port", str(watch.port)]
    watch.start()
    address = f"redis://127.0.0.1:{watch.port}/0?sentinel=shop"
    try:
        async with Redis.from_url(replica.url) as client:
            await until(lambda: linked(client))
        adapter = RedisAdapter(runtime(), url=address, prefix=prefix, tick=0.2, lease_ttl=2.0, queue_visibility=2.0)
        async with adapter, adapter.worker(concurrency=20):
            run = await adapter.start_run("chain", 0)
            assert (await run.result(timeout=20)).status == "completed"
            waits = await adapter.start_run("approval", 0)
            await until(lambda: waiting_for_answer(adapter, waits.run_id))
            async with Redis.from_url(master.url) as client:
                await client.execute_command("WAIT", 1, 5000)
            master.kill()
            async with Redis.from_url(replica.url) as client:
                await until(lambda: promoted(client))
            await adapter.signal(waits.run_id, "answer", 3)
            assert (await waits.result(timeout=30)).output("use") == 6
    finally:
        watch.kill()


async def test_tls(make_server: MakeServer, prefix: str, tmp_path: Path) -> None:
    certificate, key = certificate_for_here(tmp_path)
    port = free_port()
    server = make_server(
        "--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key),
        "--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no",
    )  # fmt: skip
    server.start()
    await flows_work(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate}", prefix)


async def linked(client: Redis) -> bool:
    return (await client.info("replication"))["master_link_status"] == "up"


async def promoted(client: Redis) -> bool:
    with suppress(Disconnected):  # it is told to close connections meanwhile
        return (await client.info("replication"))["role"] == "master"
    return False


async def waiting_for_answer(adapter: RedisAdapter, run_id: str) -> bool:
    return await adapter.status(run_id) == "awaiting"


def certificate_for_here(folder: Path) -> tuple[Path, Path]:
    """A certificate of this machine, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / "here.crt", folder / "here.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, secret
