"""Blueprints as data: the JSON of the TypeScript Flowcraft loads unchanged, and goes both ways without a loss."""

from __future__ import annotations

import copy
import dataclasses
import json
import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowcraft import ALL, ANY, Blueprint, Edge, Join, Node, Retry
from flowcraft.errors import DefinitionError

TYPESCRIPT = """
{
  "id": "order-fulfilment",
  "metadata": {
    "version": "2.1.0",
    "cycleEntryPoints": ["poll"],
    "author": "someone",
    "labels": {"team": ["a", "b"]}
  },
  "nodes": [
    {
      "id": "validate-order",
      "uses": "validateOrder",
      "params": {"strict": true, "limits": [1, 2.5, null]},
      "inputs": "order",
      "config": {"maxRetries": 3, "retryDelay": 250, "timeout": 30000, "fallback": "notify"},
      "position": {"x": 10, "y": 20},
      "data": {"label": "Validate"},
      "type": "default",
      "_sourceLocation": {"file": "a.ts", "line": 3, "column": 5}
    },
    {"id": "poll", "uses": "poll", "inputs": {"a": "validate-order", "b": "validate-order.total"}},
    {"id": "merge", "uses": "merge", "config": {"joinStrategy": "any"}},
    {"id": "all", "uses": "merge", "config": {"joinStrategy": "all", "maxRetries": 0}},
    {"id": "some", "uses": "merge", "config": {"joinStrategy": {"atLeast": 2}}},
    {"id": "notify", "uses": "notify"}
  ],
  "edges": [
    {"source": "validate-order", "target": "poll", "action": "ok", "id": "e1", "animated": true, "sourceHandle": "a",
     "_sourceLocation": {"file": "a.ts", "line": 4, "column": 1}},
    {"source": "poll", "target": "poll", "condition": "result.output.status !== 'done'"},
    {"source": "poll", "target": "merge", "condition": "", "transform": "input.items"},
    {"source": "poll", "target": "some", "action": null}
  ],
  "viewport": {"zoom": 1}
}
"""


def test_json_of_typescript_loads_unchanged() -> None:
    blueprint = Blueprint.from_json(TYPESCRIPT)
    assert blueprint == Blueprint(
        id="order-fulfilment",
        version="2.1.0",
        cycle_entry_points=("poll",),
        metadata={"author": "someone", "labels": {"team": ["a", "b"]}},
        nodes=(
            Node(
                "validate-order",
                "validateOrder",
                params={"strict": True, "limits": [1, 2.5, None]},
                inputs="order",
                retry=Retry(attempts=3, delay=0.25),
                timeout=30.0,
                fallback="notify",
            ),
            Node("poll", "poll", inputs={"a": "validate-order", "b": "validate-order.total"}),
            Node("merge", "merge", join=ANY),
            Node("all", "merge", join=ALL),
            Node("some", "merge", join=Join(at_least=2)),
            Node("notify", "notify"),
        ),
        edges=(
            Edge("validate-order", "poll", action="ok"),
            Edge("poll", "poll", condition="result.output.status !== 'done'"),
            Edge("poll", "merge", transform="input.items"),
            Edge("poll", "some"),
        ),
    )
    assert Blueprint.from_json(TYPESCRIPT.encode()) == blueprint
    assert Blueprint.from_json(b"\xef\xbb\xbf" + TYPESCRIPT.encode()) == blueprint


def test_user_interface_keys_and_source_locations_are_dropped() -> None:
    written = Blueprint.from_json(TYPESCRIPT).to_json()
    for dropped in ("_sourceLocation", "position", "animated", "sourceHandle", "viewport", "label", "default"):
        assert f'"{dropped}"' not in written


def test_dict_shaped_nodes_and_edges() -> None:
    shaped = {
        "id": "b",
        "nodes": {"a": {"uses": "f"}, "key": {"id": "own", "uses": "g"}},
        "edges": {"e1": {"source": "a", "target": "own"}},
    }
    blueprint = Blueprint.from_dict(shaped)
    assert [(node.id, node.uses) for node in blueprint.nodes] == [("a", "f"), ("own", "g")]
    assert blueprint.edges == (Edge("a", "own"),)


@pytest.mark.parametrize("edges", [{}, {"edges": None}, {"edges": []}, {"edges": {}}])
def test_missing_edges_are_none(edges: dict[str, Any]) -> None:
    assert Blueprint.from_dict({"id": "b", "nodes": [{"id": "a", "uses": "f"}], **edges}).edges == ()


@pytest.mark.parametrize(
    ("strategy", "join"),
    [
        (None, ALL),
        ("all", ALL),
        ("any", ANY),
        ({"atLeast": 1}, ANY),
        ({"atLeast": 3}, Join(at_least=3)),
    ],
)
def test_join_strategies(strategy: object, join: Join) -> None:
    assert one_node(config={"joinStrategy": strategy}).join == join


@pytest.mark.parametrize("losers", ["cancel", "run"])
def test_losers_are_kept(losers: str) -> None:
    assert one_node(config={"joinStrategy": "any", "losers": losers}).join.losers == losers


def test_settings_that_are_null_or_empty_count_as_absent() -> None:
    plain = one_node()
    empty = dict.fromkeys(("retryDelay", "timeout", "fallback", "joinStrategy", "queue", "retryMaxDelay"))
    assert one_node(config=empty, inputs=None, params=None) == plain
    assert one_node(config={"fallback": "", "queue": None}, inputs="") == plain
    assert one_node(config=None) == plain


def test_the_settings_that_typescript_does_not_have() -> None:
    node = one_node(
        config={
            "queue": "slow",
            "priority": -3,
            "retryBackoff": 1.5,
            "retryMaxDelay": 90000,
            "retryJitter": 0.25,
            "maxRetries": 2,
        }
    )
    assert node == Node(
        "a", "f", queue="slow", priority=-3, retry=Retry(attempts=2, backoff=1.5, max_delay=90.0, jitter=0.25)
    )
    blueprint = Blueprint.from_dict(
        {"id": "b", "nodes": [{"id": "a", "uses": "f"}],
         "metadata": {"failure": "fail-fast", "timeout": 1500, "maxVisits": 7, "version": 3}}
    )  # fmt: skip
    assert blueprint == Blueprint("b", (Node("a", "f"),), failure="fail-fast", timeout=1.5, max_visits=7, version="3")


def test_inputs_of_every_form() -> None:
    assert one_node(inputs=["a", "b"]).inputs == ("a", "b")
    assert one_node(inputs={"x": ["a", "b.c"], "y": "d"}).inputs == {"x": ("a", "b.c"), "y": "d"}
    assert one_node(inputs={}).inputs == {}


def test_durations_are_milliseconds_in_the_json_and_seconds_here() -> None:
    node = Node("a", "f", timeout=0.1, retry=Retry(attempts=2, delay=0.07, max_delay=1.1))
    written = Blueprint("b", (node,), timeout=4.35).to_dict()
    assert json.loads(json.dumps(written)) == {
        "id": "b",
        "nodes": [
            {"id": "a", "uses": "f",
             "config": {"maxRetries": 2, "retryDelay": 70, "retryMaxDelay": 1100, "timeout": 100}}
        ],
        "edges": [],
        "metadata": {"timeout": 4350},
    }  # fmt: skip
    assert '"timeout":100}' in Blueprint("b", (node,)).to_json(), (
        "whole numbers without a point, as JavaScript has them"
    )


def test_defaults_are_not_written() -> None:
    assert Blueprint("b", (Node("a", "f"),)).to_dict() == {
        "id": "b", "nodes": [{"id": "a", "uses": "f"}], "edges": []
    }  # fmt: skip


def test_to_json_can_be_indented() -> None:
    blueprint = Blueprint.from_json(TYPESCRIPT)
    assert Blueprint.from_json(blueprint.to_json(indent=2)) == blueprint
    assert "\n" not in blueprint.to_json()


# Both ways, for anything that a blueprint may be.

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
floats = st.floats(allow_nan=False, allow_infinity=False)
data = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
# 15 digits survive milliseconds and back; an arbitrary double may not, see test_any_duration_has_one_content_hash
durations = st.integers(1, 10**12).map(lambda micros: micros / 1_000_000) | st.integers(1, 10**6)
retries = st.builds(
    Retry,
    attempts=st.integers(1, 2**53),
    delay=durations,
    backoff=st.floats(1, 100) | st.integers(1, 100),
    max_delay=durations,
    jitter=st.floats(0, 1) | st.integers(0, 1),
)
names = texts.filter(bool)
alternatives = names | st.lists(names, min_size=1, max_size=3).map(tuple)
inputs = st.none() | alternatives | st.dictionaries(texts, alternatives, max_size=3)


@st.composite
def blueprints(draw: st.DrawFn) -> Blueprint:
    node_ids = draw(st.lists(ids, min_size=1, max_size=5, unique=True))
    some_id = st.sampled_from(node_ids)
    nodes = tuple(
        Node(
            node_id,
            draw(ids),
            params=draw(st.dictionaries(texts, data, max_size=3)),
            inputs=draw(inputs),
            retry=draw(st.just(Retry()) | retries),
            timeout=draw(st.none() | durations),
            fallback=draw(st.none() | some_id),
            join=draw(st.builds(Join, st.none() | st.integers(1, 2**53), st.sampled_from(["cancel", "run"]))),
            queue=draw(st.none() | ids),
            priority=draw(st.integers(-(2**53), 2**53)),
        )
        for node_id in node_ids
    )
    edge = st.builds(Edge, some_id, some_id, st.none() | ids, st.none() | names, st.none() | names)
    settings = {"version", "cycleEntryPoints", "failure", "timeout", "maxVisits"}
    return Blueprint(
        draw(ids),
        nodes,
        tuple(draw(st.lists(edge, max_size=5))),
        version=draw(st.none() | texts),
        cycle_entry_points=tuple(draw(st.lists(some_id, max_size=3))),
        failure=draw(st.sampled_from(["continue", "fail-fast"])),
        timeout=draw(st.none() | durations),
        max_visits=draw(st.integers(1, 2**53)),
        metadata=draw(st.dictionaries(texts.filter(lambda key: key not in settings), data, max_size=3)),
    )


def shuffled(value: Any, rng: random.Random) -> Any:
    """The same JSON with the keys of every object in another order."""
    if isinstance(value, dict):
        keys = list(value)
        rng.shuffle(keys)
        return {key: shuffled(value[key], rng) for key in keys}
    return [shuffled(item, rng) for item in value] if isinstance(value, list) else value


@given(blueprints())
def test_json_goes_both_ways(blueprint: Blueprint) -> None:
    text = blueprint.to_json()
    again = Blueprint.from_json(text)
    assert again == blueprint
    assert Blueprint.from_json(text.encode()) == blueprint
    assert Blueprint.from_dict(blueprint.to_dict()) == blueprint
    assert again.to_json() == text
    assert again.content_hash == blueprint.content_hash


@given(blueprints(), st.randoms(use_true_random=False))
def test_the_content_hash_is_independent_of_key_order(blueprint: Blueprint, rng: random.Random) -> None:
    other = Blueprint.from_dict(shuffled(blueprint.to_dict(), rng))
    assert other == blueprint
    assert other.content_hash == blueprint.content_hash


@given(st.floats(1e-9, 1e9), st.floats(1, 1e9), st.floats(0, 1))
@example(0.57, 3.0, 1.0)
@example(1 / 3, 2.0000000000000004, 0.1)
def test_any_duration_has_one_content_hash(seconds: float, backoff: float, jitter: float) -> None:
    retry = Retry(attempts=2, delay=seconds, backoff=backoff, max_delay=seconds, jitter=jitter)
    blueprint = Blueprint("b", (Node("a", "f", timeout=seconds, retry=retry),), timeout=seconds)
    stored = Blueprint.from_json(blueprint.to_json())
    assert stored.content_hash == blueprint.content_hash
    assert stored.timeout == pytest.approx(seconds, rel=1e-14)


def test_whole_numbers_and_floats_of_one_policy_are_one_content() -> None:
    whole = Blueprint("b", (Node("a", "f", timeout=2, retry=Retry(attempts=2, delay=3, backoff=3, jitter=0)),))
    float_ = Blueprint("b", (Node("a", "f", timeout=2.0, retry=Retry(attempts=2, delay=3.0, backoff=3.0, jitter=0.0)),))
    assert whole == float_
    assert whole.content_hash == float_.content_hash


def test_the_content_hash_is_the_same_in_every_release() -> None:
    blueprint = Blueprint.from_json(TYPESCRIPT)
    assert blueprint.content_hash == "10ea027182540c29753c04bba499cdf349504c2de6d0e5ee65b20f7ce4ce1c13"


@pytest.mark.parametrize(
    "other",
    [
        {"version": "2"},
        {"failure": "fail-fast"},
        {"timeout": 5.0},
        {"max_visits": 3},
        {"metadata": {"a": 1}},
        {"edges": (Edge("a", "b", action="x"),)},
        {"edges": (Edge("b", "a"),)},
        {"nodes": (Node("b", "f"), Node("a", "f"))},
        {"nodes": (Node("a", "g"), Node("b", "f"))},
        {"nodes": (Node("a", "f", params={"x": None}), Node("b", "f"))},
    ],
)
def test_the_content_hash_tells_every_change(other: dict[str, Any]) -> None:
    blueprint = Blueprint("b", (Node("a", "f"), Node("b", "f")), (Edge("a", "b"),))
    assert dataclasses.replace(blueprint, **other).content_hash != blueprint.content_hash


def test_a_blueprint_shares_nothing_with_what_it_was_made_of() -> None:
    params, raw = {"list": [1]}, {"id": "b", "nodes": [{"id": "a", "uses": "f", "params": {"list": [1]}}]}
    metadata = {"deep": {"list": [1]}}
    made = Blueprint("b", (Node("a", "f", params=params, inputs={"x": ["y"]}),), metadata=metadata)
    read = Blueprint.from_dict(raw)
    hashes = made.content_hash, read.content_hash
    params["list"].append(2)
    metadata["deep"]["list"].append(2)
    raw["nodes"][0]["params"]["list"].append(2)  # type: ignore[index]
    written: Any = made.to_dict()
    written["nodes"][0]["params"]["list"].append(2)
    written["nodes"][0]["inputs"]["x"].append("z")
    written["metadata"]["deep"]["list"].append(2)
    assert (made.content_hash, read.content_hash) == hashes
    assert made.node("a").params == {"list": [1]}


def test_a_blueprint_is_frozen_and_can_be_copied() -> None:
    blueprint = Blueprint.from_json(TYPESCRIPT)
    for part, name in ((blueprint, "id"), (blueprint.nodes[0], "uses"), (blueprint.edges[0], "action")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, name, "other")
    assert copy.deepcopy(blueprint) == blueprint


def test_node_by_id() -> None:
    blueprint = Blueprint.from_json(TYPESCRIPT)
    assert blueprint.node("poll") is blueprint.nodes[1]
    with pytest.raises(DefinitionError, match="has no node 'nope'") as caught:
        blueprint.node("nope")
    assert caught.value.subject == "nope"


@pytest.mark.parametrize(
    ("retry", "delays"),
    [
        (Retry(attempts=9, delay=1.0, backoff=2.0, max_delay=5.0, jitter=0.0), [1.0, 2.0, 4.0, 5.0, 5.0]),
        (Retry(attempts=9, delay=0.0, backoff=1e9, jitter=0.0), [0.0, 0.0]),
        (Retry(attempts=9, delay=7.0, backoff=1.0, jitter=0.0), [7.0, 7.0]),
    ],
)
def test_delays_grow_up_to_the_cap(retry: Retry, delays: list[float]) -> None:
    assert [retry.delay_after(n, 0.5) for n in range(1, len(delays) + 1)] == delays


def test_delays_of_absurd_attempts_stay_finite() -> None:
    assert Retry(delay=1.0, backoff=1e10, max_delay=60.0, jitter=0.0).delay_after(10_000, 0.5) == 60.0
    assert Retry(delay=0.0, backoff=1e10, max_delay=60.0, jitter=0.0).delay_after(10_000, 0.5) == 0.0


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 1))
def test_jitter_spreads_a_delay_by_its_share(spread: float, jitter: float) -> None:
    delay = Retry(delay=10.0, jitter=jitter).delay_after(1, spread)
    assert 10.0 * (1 - jitter) <= delay <= 10.0 * (1 + jitter)


def one_node(**parts: Any) -> Node:
    return Blueprint.from_dict({"id": "b", "nodes": [{"id": "a", "uses": "f", **parts}]}).nodes[0]
