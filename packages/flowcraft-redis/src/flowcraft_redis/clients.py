"""Clients of redis-py: from an address, or as the caller has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias, cast
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from flowcraft.errors import Misconfigured
from flowcraft_redis.cluster import ClusterLink
from flowcraft_redis.link import Link, SingleLink

__all__ = ["AnyClient", "link_of", "link_to", "split_options"]

#: What can be passed in: of one server, of a master that Sentinel finds, or of a cluster.
AnyClient: TypeAlias = Redis | RedisCluster
_SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
_OURS: Final = ("prefix", "partitions", "cluster", "sentinel")


def link_of(client: AnyClient) -> Link:
    """The way through a client, which stays the caller's.

    Raises:
        Misconfigured: its pool is too small, or it is no asyncio client of redis-py.
    """
    if isinstance(client, RedisCluster):
        return ClusterLink(client, owned=False, place="the cluster")
    if not isinstance(client, Redis):
        found = f"{type(client).__module__}.{type(client).__name__}"
        raise Misconfigured(f"the client must be a redis.asyncio.Redis or RedisCluster, not a {found}")
    return SingleLink(client, owned=[], place=_place(client))


def link_to(url: str) -> Link:
    """The way to an address, opened when it is needed.

    Raises:
        Misconfigured: the address cannot be one.
    """
    bare, options = split_options(url)
    parts = urlsplit(bare)
    place = parts.netloc.rpartition("@")[2] or unquote(parts.path)
    try:
        if "sentinel" in options:
            service = options["sentinel"]
            master, watchers = _of_sentinel(bare, service)
            return SingleLink(master, owned=[master, *watchers], place=f"{place} ({service})")
        if options.get("cluster", "").lower() in ("1", "true", "yes"):
            cluster = RedisCluster.from_url(bare, protocol=2, socket_connect_timeout=_CONNECT)
            return ClusterLink(cluster, owned=True, place=place)
        client = Redis.from_url(bare, **_settings())
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # which finds out that an option of the address is none
        return SingleLink(client, owned=[client], place=place)
    except (ValueError, TypeError) as error:
        raise Misconfigured(f"the address of Redis at {place or 'nowhere'} cannot be used: {error}") from error


def split_options(url: str) -> tuple[str, dict[str, str]]:
    """An address as redis-py reads it, and the options in it that are ours.

    Raises:
        Misconfigured: another scheme, or no place.
    """
    try:
        parts = urlsplit(url)
        port = parts.port if "," not in parts.netloc else None
    except ValueError as error:
        raise Misconfigured(f"this is not the address of a Redis: {error}") from error
    scheme = "unix" if parts.scheme == "unix" else _SCHEMES.get(parts.scheme)
    if scheme is None or not (parts.netloc or parts.path.strip("/")) or port == 0:
        raise Misconfigured("the address of a Redis is redis://host:6379/0, rediss://… with TLS, or unix:///path.sock")
    if scheme != "unix" and not parts.path.strip("/").isdecimal() and parts.path.strip("/"):
        raise Misconfigured(f"the path in the address of a Redis is the number of its database, not {parts.path!r}")
    query = parse_qsl(parts.query, keep_blank_values=True)
    ours = {name: value for name, value in query if name in _OURS}
    rest = urlencode([(name, value) for name, value in query if name not in _OURS])
    return urlunsplit((scheme, parts.netloc, parts.path, rest, "")), ours


_CONNECT: Final = 5.0  # seconds


def _settings() -> dict[str, Any]:
    """For clients of our own: the wire itself asks again and knows how long to wait."""
    return {
        "protocol": 2, "socket_timeout": None, "socket_connect_timeout": _CONNECT, "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0), "client_name": "flowcraft",
    }  # fmt: skip


def _of_sentinel(url: str, service: str) -> tuple[Redis, Sequence[Redis]]:
    """A client of the master, and the clients that ask where it is, which nobody else closes."""
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    places: list[tuple[str, int]] = []
    for host in hosts.split(","):
        name, _, port = host.rpartition(":") if ":" in host else (host, "", "26379")
        places.append((name.strip("[]"), int(port)))
    user, _, password = credentials.partition(":")
    settings: dict[str, Any] = _settings() | {"db": int(parts.path.strip("/") or 0)}
    if parts.scheme == "rediss":
        settings["ssl"] = True
    if credentials:
        settings |= {"username": unquote(user) or None, "password": unquote(password)}
    quiet = {"socket_timeout": _CONNECT, "socket_connect_timeout": _CONNECT}
    sentinel = cast("Any", Sentinel)(places, sentinel_kwargs=quiet | dict(parse_qsl(parts.query)))
    return sentinel.master_for(service, **settings), tuple(sentinel.sentinels)


def _place(client: Redis) -> str:
    kwargs = client.connection_pool.connection_kwargs
    if "path" in kwargs:
        return str(kwargs["path"])
    return f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
