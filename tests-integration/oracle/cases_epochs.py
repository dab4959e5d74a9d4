"""Cases of runs that go on after their end, or after a rollback, in what is hard about it (13.4 and 13.5).

Most were found by random workflows, and made small.
"""

from __future__ import annotations

from .cases import Row, case, flow
from .cases_commands import ECHO, FAIL, ONCE, RUN, SCATTER, TWICE, WAIT, loop, undone

__all__ = ["CASES"]

ANY: Row = {"join": "any"}


def fails(*visits: int, **more: object) -> Row:
    return {"fail": {"visits": list(visits)} if visits else {}, **more}


# As dense as the oracle's tables:
# fmt: off
FALLBACKS = [
    case("of a fallback's edge that could not be judged, whom it stood in for starts again",
         flow("a, f>d?1 / 0 == 1", {"a": fails(1, fallback="f")}), "a f@a retry -f a", ok="a", dead="f d",
         visits={"a": 2}),
    case("a rollback to a node that only stood in for another leaves it to its join",
         flow("a>b:x", {"a": fails(fallback="b")}), "a b@a rollback:b -b", ok="a", dead="b"),
    case("a fallback keeps what it did for others",
         flow("a, b>x, f>e", {"a": fails(fallback="f"), "b": fails(1, fallback="f")}),
         "a f@a e b f@b x rollback:b -e b -f x", ok="a b f e x", visits={"e": 1, "f": 2, "b": 2}),
    case("a fallback keeps what it did for others also if it was first for the one that is reset",
         flow("a, b>x, f>e", {"a": fails(fallback="f"), "b": fails(1, fallback="f")}),
         "b f@b e a f@a x rollback:b -e b -f x", ok="a b f e x", visits={"e": 1, "f": 2, "b": 2}),
    case("a fallback that helped a node that stays has completed",
         flow("a, b>x, f", {"a": fails(fallback="f"), "b": fails(1, fallback="f")}),
         "a f@a b f@b x rollback:b b -f x", ok="a b f x", visits={"f": 2}),
    case("what a fallback did only for the node that is reset is undecided again",
         flow("a, b>x, f>e:again, f>g:once",
              {"a": fails(fallback="f"), "b": fails(1, fallback="f"), "f": {"actions": ["again", "once"]}}),
         "b f@b e a f@a g x rollback:b -g b x", ok="a b f g x", dead="e", visits={"g": 1, "b": 2}),
    case("fallbacks in a row are reset with the node that they stood in for",
         flow("a>b, f, g>e", {"a": fails(1, fallback="f"), "f": fails(fallback="g")}),
         "a f@a g@a b e rollback:a a -f b", ok="a b", dead="f g e", visits={"a": 2}),
    case("a fallback that failed for a node that stays has failed",
         flow("c>d, a>b", {"a": fails(1, fallback="e"), "c": fails(fallback="e"), "e": FAIL}),
         "a e@a c e@c rollback:a a b", status="failed", ok="a b", failed="c e", failures="c"),
]

LOOPS = [
    case("visits of a header that was abandoned count on", flow("s>t, a>b, b>a:again", {"b": TWICE}, maxVisits=2),
         "cancel ~s ~a retry a b -a s t", status="failed", ok="b s t", failed="a", failures="a", visits={"a": 2}),
    case("visits of a wait that heads a cycle count on",
         flow("s>t, i>j, j>i:again", {"i": WAIT, "j": TWICE}, maxVisits=2),
         "cancel ~s retry signal:i j signal:i->late s t", status="failed", ok="j s t", failed="i", failures="i",
         visits={"i": 2}),
    case("an edge into two cycles does not count again while the outer one goes on",
         flow("s>e, e>f, f>h, h>e:x, e>e:again", {"h": ONCE}, cycleEntryPoints=["f"]), "s e f h retry h -e",
         ok="s e f h", visits={"e": 1, "h": 2}),
    case("a header gets what sent it round, not what its sources made since",
         flow("s>a, a>b, a>d, b>a:again",
              {"a": ECHO, "b": {"each": ["b1", "b2", "b3"], "actions": ["again", "again", None]}}),
         "s a b d a b rollback:a ~d a b d", ok="s a b d", outputs={"a": "b1"}, visits={"a": 3, "b": 3}),
    case("a header gets what sent it round also if its sources were reset since",
         flow("s>a, a>b, a>d, b>a:again", {"a": ECHO, "b": {"each": ["b1", "b2"], "actions": ["again", None]}}),
         "s a b d a b rollback:b ~d b rollback:a ~d a b d", ok="s a b d", outputs={"a": "b1"}, visits={"a": 3, "b": 4}),
    case("that a header went round too often in an earlier opening is forgotten",
         flow("a>b, b>x, x>b:again, a>c, c>a:more",
              {"b": ECHO, "x": {"actions": ["again", "again", "again", None]}, "c": {"actions": ["more", None, None]}},
              maxVisits=2),
         "a b x b x c a b x cancel ~b ~c retry b x c", ok="a b x c", outputs={"b": "x"}, visits={"b": 5}),
    case("what has nothing before it starts again in a new opening",
         flow("s>e, e>e:again, e>f, g", {"g": fails(1, fallback="f"), "e": TWICE, "f": fails(1, 2)}),
         "s g f@g e e f retry:s+g s g e e f", ok="s e f g", visits={"g": 2, "s": 2}),
    case("a cycle that was stopped before it went round does so in the next epoch",
         flow("s, a>b, b>a:again, a>x", {"b": TWICE, "x": ONCE}, failure="fail-fast"),
         "s a b x rollback:s s a b x", status="failed", ok="s a b x", failures="x", visits={"a": 2, "s": 2}),
    case("what led into a cycle while it went round counts in its next opening",
         flow("s>a, a>m, x>m, m>a:again", {"m": {**RUN, "actions": ["again", None, None]}}, cycleEntryPoints=["a"]),
         "s a m x a m rollback:s m s a", ok="s a m x", visits={"m": 3, "x": 1}),
    case("undoing a visit of an earlier round leaves the node as it is now",
         flow("s>a, a>k:once, a>b:twice, k>c, b>c, c>a:again, u",
              {"a": {"actions": ["once", "twice"]}, "k": undone(), "u": ECHO,
               "c": {"join": "any", "actions": ["again", None, None]}}),
         "s a k c a b rollback:k ~c u@k -k c", ok="s a b c k", visits={"k": 1, "c": 3}),
    case("of loops in each other that nothing enters, the outer one begins",
         flow("i>b:continue, b>i, i>o:break, o>i:continue, o>z:break",
              {"i": loop("input.n < 1"), "o": loop("input.n < 1"), "b": {"output": {"n": 1}}}),
         "b z", run_input={"n": 0}, ok="i b o z", visits={"o": 2, "i": 2}),
    case("a loop is left early back to the one around it",
         flow("L>M:continue, M>b:continue, M>c:continue, b>M, c>M, M>L:break, b>L:stop, L>d:break",
              {"L": loop("input.n < 1"), "M": loop("true"), "b": {"output": {"n": 1}, "actions": ["stop"]}}),
         "b ~c d", run_input={"n": 0}, ok="L M b d", dead="c", visits={"L": 2, "M": 1}),
    case("a loop in one that was left early does not go round either",
         flow("L>M:continue, L>x:continue, M>b:continue, M>c:continue, b>M, c>M, M>L:break, x>L, L>d:break, x>d:stop",
              {"L": loop("true"), "M": loop("true"), "c": WAIT, "x": {"actions": ["stop"]}, "d": RUN}),
         "signal:c x b -b d", ok="L M x c b d", visits={"b": 1}),
]

OTHERS = [
    case("a join is decided before a wait that goes on at once",
         flow("h>i, e>h, e>i", {"h": WAIT, "i": RUN}), "signal:h->kept e i", ok="e h i", outputs={"i": "e"}),
    case("what was abandoned gets the input that it had fired with",
         flow("a>j, b>j", {"j": RUN}), "b a cancel ~j retry j", ok="a b j", outputs={"j": "b"}, visits={"j": 2}),
    case("a loser that had begun begins its next visit when it is reset",
         flow("s>a, s>b, a>j, b>j", {"j": ANY}), "s b ~a j rollback:s s a ~b j", ok="s a j", cancelled="b",
         visits={"a": 2}),
    case("a batch that was given up stays so when the run is stopped",
         flow("w_scatter>w_gather, w_gather>j, b>j",
              {"w_scatter": SCATTER, "w_gather": {"uses": "batch-gather"}, "j": ANY}),
         "w_scatter b rollback:b ~j ~w[0] -w[0] b j", run_input=["x"], ok="w_scatter b j", cancelled="w w_gather"),
    case("a failure of an earlier epoch does not stop the run again",
         flow("a, s>b, s>c, b>j, c>j, j>d, d>e", {"a": FAIL, "b": FAIL, "j": RUN}, failure="fail-fast"),
         "s c j a ~b ~d rollback:s s c j b d e", status="failed", ok="s c j d e", failed="a b", failures="a b"),
    case("what a fallback did for the node is undone",
         flow("a>b, f, u, v",
              {"a": {**undone(), **fails(fallback="f")}, "f": {"compensate": "v"}, "u": ECHO, "v": ECHO}),
         "a f@a b rollback:a v@f u@a a f@a b", ok="a f b", visits={"a": 2, "f": 2}),
    case("what a fallback did for another node is not undone",
         flow("a>b, c, f, v",
              {"a": fails(fallback="f"), "c": fails(fallback="f"), "f": {"compensate": "v"}, "v": ECHO}),
         "a f@a c f@c b rollback:c v@f c f@c", ok="a c f b", visits={"f": 3, "b": 1}),
    case("a compensation that failed is tried again by the next rollback",
         flow("a>b, u", {"a": undone(), "u": FAIL}), "a b rollback u@a rollback u@a", status="failed", ok="a b",
         failures="a a"),
    case("a visit whose edges could not be judged had completed",
         flow("a>b?1 / 0 == 1, u", {"a": undone(), "u": ECHO}), "a rollback u@a", status="cancelled", failed="a",
         upstream="b", failures="a"),
    case("a cancel ends no rollback", flow("a>b, u", {"a": undone(), "u": ECHO}), "a rollback cancel b u@a",
         status="cancelled", ok="a"),
]
# fmt: on

CASES = [*FALLBACKS, *LOOPS, *OTHERS]
