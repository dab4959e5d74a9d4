"""What lint says can never happen never does: random blueprints are linted, then run with random outcomes."""

import asyncio
import random
from typing import Any

import pytest

from flowcraft.blueprint import Blueprint, Edge, Join, Node
from flowcraft.errors import DefinitionError
from flowcraft.graph import compile_graph
from flowcraft.lint import lint_blueprint
from flowcraft.lint.decisions import certain_nodes
from flowcraft.nodes import NodeContext, Result
from flowcraft.runtime import FlowRuntime

CONDITIONS = [
    "result.output == 1", "result.output == 2", "result.output != 1", "result.output", "!result.output",
    "result.output == 1 || result.output == 2", "!(result.output == 1 or result.output == 2)", "false", "1 < 2",
]  # fmt: skip


def make(chance: random.Random) -> Blueprint:
    count = chance.randint(2, 7)
    ids = [f"n{i}" for i in range(count)]
    joins = [Join(), Join(), Join(), Join(1), Join(2), Join(2, "run"), Join(3)]
    nodes = [
        Node(i, "f", join=chance.choice(joins), fallback=chance.choice(ids) if chance.random() < 0.12 else None)
        for i in ids
    ]
    edges: list[Edge] = []
    for _ in range(chance.randint(1, 2 * count)):
        a, b = sorted(chance.sample(range(count), 2))
        if chance.random() < 0.1:
            a, b = b, a
        action = chance.choice(["x", "y"]) if chance.random() < 0.5 else None
        condition = chance.choice(CONDITIONS) if chance.random() < 0.4 else None
        edges.append(Edge(ids[a], ids[b], action, condition))
    return Blueprint("random", tuple(nodes), tuple(edges), max_visits=4)


async def outcome(ctx: NodeContext[Any, random.Random]) -> Result[Any]:
    if ctx.deps.random() < 0.05:
        raise ValueError("now and then")
    return Result(ctx.deps.choice([0, 1, 2, 3]), ctx.deps.choice(["x", "y", None]))


@pytest.mark.parametrize("seed", range(8))
def test_what_never_happens_never_happens(seed: int) -> None:
    chance = random.Random(seed)
    claims = 0
    for _ in range(80):
        blueprint = make(chance)
        try:
            certain = {compile_graph(blueprint).ids[n] for n in certain_nodes(compile_graph(blueprint))}
        except DefinitionError:
            continue
        issues = lint_blueprint(blueprint).issues
        stand_ins = {node.fallback for node in blueprint.nodes}
        never = {i.subject for i in issues if i.code == "UNREACHABLE_NODE"}
        never |= {i.subject for i in issues if i.code == "JOIN_NEVER_FIRES"} - stand_ins
        single = {issue.subject for issue in issues if issue.code == "ALL_JOIN_OF_ALTERNATIVES"}
        claims += len(never) + len(single)
        for _ in range(4):
            ran: list[str] = []
            several: set[str] = set()

            async def watched(ctx: NodeContext[Any, random.Random]) -> Result[Any]:
                ran.append(ctx.node_id)  # noqa: B023 - called before the loop goes on
                if isinstance(ctx.input, dict) and "error" not in ctx.input and len(ctx.input) > 1:
                    several.add(ctx.node_id)  # noqa: B023 - likewise
                return await outcome(ctx)

            runtime = FlowRuntime(blueprints=[blueprint], registry={"f": watched}, deps=random.Random(chance.random()))
            result = asyncio.run(runtime.run(blueprint))
            told = f"{blueprint.to_json()} {issues}"
            assert not never & set(ran), told
            assert not single & several, told
            if not result.failures:
                assert certain <= set(ran), told
    assert claims > 10, "the blueprints are so that there is something to claim"
