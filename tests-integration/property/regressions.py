"""What random workflows found, made small: where engine and oracle, or two readings of the page, once disagreed.

In an order, ``rest`` parks all that is ready and ``~a`` abandons the draining ``a``.
"""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

from ..oracle.cases import Row, case, flow

__all__ = ["CASES"]

FAIL: Row = {"fail": {}}
ECHO: Row = {"echo": True}
N4: Row = {"output": {"n": 4}}

# As dense as the oracle's tables:
# fmt: off
CASES = [
    case("a fallback's edge names the node it stood in for",
         flow("f>b!a.n", {"a": {"fallback": "f", **FAIL}, "f": N4, "b": ECHO}), ok="a f b", outputs={"b": 4}),
    case("a condition of a fallback's edge names the node it stood in for",
         flow("f>b?a.n > 3", {"a": {"fallback": "f", **FAIL}, "f": N4}), ok="a f b"),
    case("no absolution through a node that ran in an earlier round",
         flow("s>b, b>c, c>d, d>e, e>f, f>b:never", {"c": {"join": "any"}, "e": FAIL}, cycleEntryPoints=["e"]),
         "s b c d e", status="failed", ok="s b c d", failed="e", upstream="f", failures="e",
         reading="b is skipped where e fails, but it ran in the round before, and that is what counts of it"),
    case("a fallback that succeeded once stays so when its ordinary visit is abandoned",
         flow("c>b", {"a": {"fallback": "b", **FAIL}}), "c a b@a cancel ~b", status="cancelled", ok="a b c"),
    case("a fallback that succeeded once stays so when its ordinary visit fails late",
         flow("c>b", {"a": {"fallback": "b", **FAIL}, "b": {"fail": {"visits": [2]}}}), "a b@a c cancel b",
         status="cancelled", ok="a b c", failures="b"),
    case("a fallback that succeeded once stays so when its ordinary visit is parked at the end",
         flow("c>b", {"a": {"fallback": "b", **FAIL}}), "a b@a c rest cancel", status="cancelled", ok="a b c"),
    case("a fallback whose own fallback is abandoned has come to nothing",
         flow("c>b, e", {"a": {"fallback": "b"}, "b": {"fallback": "e", **FAIL}}), "c b cancel ~b a",
         status="cancelled", ok="c a", cancelled="b e"),
    case("fallbacks in a row of which the last is abandoned have come to nothing",
         flow("a, b, e", {"a": {"fallback": "b", **FAIL}, "b": {"fallback": "e", **FAIL}}), "a b@a cancel ~a",
         status="cancelled", cancelled="a b e"),
    case("fallbacks in a row of which the last comes late have come to it",
         flow("a, b, e", {"a": {"fallback": "b", **FAIL}, "b": {"fallback": "e", **FAIL}}), "a b@a cancel e@a",
         status="cancelled", ok="a b e"),
    case("a fallback that nobody could execute did not run",
         flow("l>j, s>j, f>k", {"l": {"fallback": "f", **FAIL}, "j": {"join": "any"}}), "l cancel ~l s",
         status="cancelled", ok="s", cancelled="l j f k"),
    case("a drained outcome asks no condition", flow("a>j, b>j?1 / 0 == 1", {"j": {"join": "any"}}), "a b j",
         ok="a b j"),
    case("cancelling a run that is failing", flow("a, b", {"a": FAIL}, failure="fail-fast"), "a cancel b",
         status="cancelled", ok="b", failed="a", failures="a", reading="it was cancelling, which comes first"),
    case("of parallel edges the one with a transform takes the place of inputs",
         flow("a>b, b>c, b>c!input, a>c!input.n", {"a": N4, "b": N4, "c": {"inputs": "a.n", **ECHO}}), ok="a b c",
         outputs={"c": 4}),
    case("the first transform takes the place of inputs",
         flow("a>c!input.n + 1, b>c", {"a": N4, "b": N4, "c": {"inputs": "a", **ECHO}}), "a b c", ok="a b c",
         outputs={"c": 5}),
]
# fmt: on
