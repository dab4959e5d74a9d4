"""The JSON of blueprints, both ways: that of the TypeScript Flowcraft, durations in milliseconds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Literal, cast

from flowcraft.blueprint import (
    MAX_BLUEPRINT_BYTES,
    Blueprint,
    Edge,
    Inputs,
    Join,
    Json,
    Node,
    Retry,
)
from flowcraft.checks import MAX_SECONDS, check_id, check_number, copy_json, told
from flowcraft.errors import DefinitionError
from flowcraft.limit import Limit

__all__ = ["dump_blueprint", "parse_blueprint", "parse_text"]


def parse_text(text: str | bytes) -> Blueprint:
    """See `Blueprint.from_json`."""
    if len(text) > MAX_BLUEPRINT_BYTES:
        raise DefinitionError(f"the blueprint has {len(text)} bytes, the limit is {MAX_BLUEPRINT_BYTES}")
    try:
        data = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        raise DefinitionError(f"malformed JSON at line {error.lineno}, column {error.colno}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise DefinitionError(f"the blueprint is not UTF-8 text: {error}") from error
    except ValueError as error:
        raise DefinitionError(f"the blueprint holds a number that is too long: {error}") from error
    except RecursionError:
        raise DefinitionError("the blueprint is nested too deeply") from None
    return parse_blueprint(data)


def _refuse_constant(name: str) -> float:
    raise DefinitionError(f"the blueprint holds {name}, which is not JSON")


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise DefinitionError(f"an object of the blueprint has the key {told(twice)} twice", subject=twice[:80])
    return found


def _object(value: object, what: str) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise DefinitionError(f"{what} must be an object, not {type(value).__name__}", subject=what)
    return cast("dict[str, Json]", value)


def _items(value: object, what: str) -> Iterator[tuple[str | None, object]]:
    """The members of a list, or of an object (whose key is an id where the member has none)."""
    if value is None:
        return
    if isinstance(value, dict):
        yield from cast("dict[str, object]", value).items()
    elif isinstance(value, list):
        yield from ((None, item) for item in cast("list[object]", value))
    else:
        raise DefinitionError(f"{what} must be a list or an object, not {type(value).__name__}", subject=what)


def parse_blueprint(data: object) -> Blueprint:
    top = _object(data, "the blueprint")
    metadata = dict(_object(top.get("metadata") or {}, "metadata"))
    blueprint_id = check_id(top.get("id"), "blueprint id")
    version = metadata.pop("version", None)
    if isinstance(version, int | float) and not isinstance(version, bool):
        version = str(version)
    entries = metadata.pop("cycleEntryPoints", None) or ()
    if not isinstance(entries, list | tuple):
        raise DefinitionError("metadata.cycleEntryPoints must be a list of node ids", subject="cycleEntryPoints")
    failure, timeout, max_visits = (metadata.pop(name, None) for name in ("failure", "timeout", "maxVisits"))
    return Blueprint(
        id=blueprint_id,
        nodes=tuple(_parse_node(key, item) for key, item in _items(top.get("nodes"), "nodes")),
        edges=tuple(_parse_edge(i, item) for i, (_, item) in enumerate(_items(top.get("edges"), "edges"))),
        version=_optional_text(version, "metadata.version"),
        cycle_entry_points=tuple(check_id(entry, "cycle entry point") for entry in cast("Iterable[object]", entries)),
        failure=cast("Literal['continue', 'fail-fast']", "continue" if failure is None else failure),
        timeout=None if timeout is None else _seconds(timeout, "metadata.timeout"),
        max_visits=10_000 if max_visits is None else cast("int", max_visits),
        metadata=metadata,
    )


def _optional_text(value: object, what: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise DefinitionError(f"{what} must be text, not {type(value).__name__}", subject=what)


def _parse_node(key: str | None, item: object) -> Node:
    raw = _object(item, f"node {key!r}" if key is not None else "a node")
    node_id = check_id(raw.get("id", key), "node id")
    at = f"node {node_id!r}"
    config = _object(raw.get("config") or {}, f"config of {at}")
    retry = Retry()
    attempts = config.get("maxRetries", 1)
    if attempts == 0 and not isinstance(attempts, bool):
        attempts = 1  # the original documents the number as retries with default 0: one attempt
    timeout = config.get("timeout")
    try:
        return Node(
            id=node_id,
            uses=check_id(raw.get("uses"), f"'uses' of {at}"),
            params=_object(raw.get("params") or {}, f"params of {at}"),
            inputs=cast("Inputs | None", None if raw.get("inputs") == "" else raw.get("inputs")),
            retry=Retry(
                attempts=cast("int", attempts),
                delay=_seconds(config.get("retryDelay"), "retryDelay", retry.delay),
                backoff=check_number(config.get("retryBackoff", retry.backoff), "retryBackoff"),
                max_delay=_seconds(config.get("retryMaxDelay"), "retryMaxDelay", retry.max_delay),
                jitter=check_number(config.get("retryJitter", retry.jitter), "retryJitter"),
            ),
            timeout=None if timeout is None else _seconds(timeout, "timeout"),
            fallback=_optional_text(config.get("fallback"), f"fallback of {at}") or None,
            join=_parse_join(config.get("joinStrategy"), config.get("losers", "cancel")),
            compensate=_optional_text(config.get("compensate"), f"compensate of {at}") or None,
            queue=_optional_text(config.get("queue"), f"queue of {at}"),
            priority=cast("int", config.get("priority", 0)),
            limits=_parse_limits(config.get("limits")),
        )
    except DefinitionError as error:
        if at in str(error):
            raise
        raise DefinitionError(f"{at}: {error}", subject=node_id) from error


_LIMIT_KEYS = frozenset({"name", "key", "concurrency", "rate", "per", "burst"})


def _parse_limits(value: object) -> tuple[Limit, ...]:
    if value is not None and not isinstance(value, list):
        raise DefinitionError(f"limits must be a list, not {told(value)}")
    return tuple(map(_parse_limit, cast("list[object]", value or [])))


def _parse_limit(item: object) -> Limit:
    raw = _object(item, "a limit")
    for name in raw.keys() - _LIMIT_KEYS:
        raise DefinitionError(f"a limit has no {told(name)}, only {', '.join(sorted(_LIMIT_KEYS))}")
    rate = raw.get("rate")
    return Limit(
        name=_optional_text(raw.get("name"), "the name of a limit"),
        key=_optional_text(raw.get("key"), "the key of a limit"),
        concurrency=cast("int | None", raw.get("concurrency")),
        rate=None if rate is None else check_number(rate, "rate of a limit"),
        per=_seconds(raw.get("per"), "per of a limit", 1.0),
        burst=cast("int | None", raw.get("burst")),
    )


def _dump_limit(limit: Limit, usual_name: str) -> dict[str, Json]:
    rows: list[tuple[str, Json, Json]] = [
        ("name", limit.name, usual_name),
        ("key", limit.key, None),
        ("concurrency", limit.concurrency, None),
        ("rate", None if limit.rate is None else _plain(limit.rate), None),
        ("per", _milliseconds(limit.per), 1000),
        ("burst", limit.burst, None),
    ]
    return {name: value for name, value, usual in rows if value != usual}


def _seconds(value: object, name: str, default: float = 0.0) -> float:
    """From milliseconds, in decimal: what `_milliseconds` wrote is read as it was."""
    if value is None:
        return default
    return float(Decimal(repr(check_number(value, name, at_least=0.0, at_most=MAX_SECONDS * 1000))).scaleb(-3))


def _milliseconds(seconds: float) -> float:
    """With 15 digits, which survive the way there and back: the content hash must."""
    return _plain(float(f"{Decimal(repr(float(seconds))).scaleb(3):.15g}"))


def _plain(number: float) -> float:
    """A whole number without a point, as JavaScript writes it."""
    return int(number) if number == int(number) else number


def _parse_join(strategy: object, losers: object) -> Join:
    kept = cast("Literal['cancel', 'run']", losers)
    if strategy is None or strategy == "all":
        return Join(losers=kept)
    if strategy == "any":
        return Join(at_least=1, losers=kept)
    if isinstance(strategy, dict) and set(cast("dict[str, object]", strategy)) == {"atLeast"}:
        return Join(at_least=cast("dict[str, int]", strategy)["atLeast"], losers=kept)
    raise DefinitionError(f"joinStrategy is 'all', 'any' or {{\"atLeast\": n}}, not {told(strategy)}")


def _parse_edge(index: int, item: object) -> Edge:
    raw = _object(item, f"edge {index}")
    source = check_id(raw.get("source"), f"source of edge {index}")
    target = check_id(raw.get("target"), f"target of edge {index}")
    texts = {
        name: _optional_text(raw.get(name), f"{name} of edge {source} -> {target}")
        for name in ("action", "condition", "transform")
    }
    return Edge(source, target, **{name: text or None for name, text in texts.items()})


def dump_blueprint(blueprint: Blueprint) -> dict[str, Json]:
    metadata: dict[str, Json] = copy_json(blueprint.metadata, "metadata")
    if blueprint.version is not None:
        metadata["version"] = blueprint.version
    if blueprint.cycle_entry_points:
        metadata["cycleEntryPoints"] = list(blueprint.cycle_entry_points)
    if blueprint.failure != "continue":
        metadata["failure"] = blueprint.failure
    if blueprint.timeout is not None:
        metadata["timeout"] = _milliseconds(blueprint.timeout)
    if blueprint.max_visits != 10_000:
        metadata["maxVisits"] = blueprint.max_visits
    data: dict[str, Json] = {"id": blueprint.id, "nodes": [_dump_node(node, blueprint.id) for node in blueprint.nodes]}
    data["edges"] = [
        {
            name: value
            for name in ("source", "target", "action", "condition", "transform")
            if (value := getattr(edge, name)) is not None
        }
        for edge in blueprint.edges
    ]
    return {**data, "metadata": metadata} if metadata else data


def _dump_node(node: Node, blueprint_id: str) -> dict[str, Json]:
    data: dict[str, Json] = {"id": node.id, "uses": node.uses}
    if node.params:
        data["params"] = copy_json(node.params, "params")
    if node.inputs is not None:
        data["inputs"] = copy_json(node.inputs, "inputs")
    config = _dump_config(node)
    if node.limits:
        config["limits"] = [_dump_limit(limit, f"{blueprint_id}.{node.id}") for limit in node.limits]
    return {**data, "config": config} if config else data


def _dump_config(node: Node) -> dict[str, Json]:
    default, retry = Retry(), node.retry
    rows: list[tuple[str, Json, Json]] = [
        ("maxRetries", retry.attempts, default.attempts),
        ("retryDelay", _milliseconds(retry.delay), _milliseconds(default.delay)),
        ("retryBackoff", _plain(retry.backoff), default.backoff),
        ("retryMaxDelay", _milliseconds(retry.max_delay), _milliseconds(default.max_delay)),
        ("retryJitter", _plain(retry.jitter), default.jitter),
        ("timeout", None if node.timeout is None else _milliseconds(node.timeout), None),
        ("fallback", node.fallback, None),
        ("losers", node.join.losers, "cancel"),
        ("compensate", node.compensate, None),
        ("queue", node.queue, None),
        ("priority", node.priority, 0),
    ]
    config = {name: value for name, value, usual in rows if value != usual}
    if (n := node.join.at_least) is not None:
        config["joinStrategy"] = "any" if n == 1 else {"atLeast": n}
    return config
