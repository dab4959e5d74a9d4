"""Codecs around other ones: they round-trip, mix, rotate, and refuse without telling what they refuse."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tracemalloc
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcraft import FlowRuntime, JsonCodec, NodeContext
from flowcraft.blueprint import Blueprint, Node
from flowcraft.codec import Codec
from flowcraft.codecs import CompressingCodec, EncryptingCodec, WrappingCodec
from flowcraft.errors import InvalidRequest, KeyMissing, Misconfigured, PayloadTooLarge, SerializationError, Tampered

A, B = b"a" * 32, b"b" * 32
SECRET = "a-secret-that-nobody-else-has"


@dataclass(frozen=True)
class Order:
    id: int
    note: str
    price: Decimal = Decimal("1.50")


def json() -> JsonCodec:
    return JsonCodec(types=[Order])


CHAINS: dict[str, Codec] = {
    "compressing": CompressingCodec(json(), above=16),
    "encrypting": EncryptingCodec(json(), {"a": A}),
    "both": EncryptingCodec(CompressingCodec(json(), above=16), {"a": A}),
    "the wrong way round": CompressingCodec(EncryptingCodec(json(), {"a": A}), above=16),
    "twice": CompressingCodec(CompressingCodec(json(), above=500), above=16),
}
VALUES = [
    None, True, 0, -1, 1e22, "", "text " * 400, b"\x00\xff" * 900, [1, [2.5, None]], {"k": "v" * 3000}, ("a", 1),
    datetime(2026, 11, 1, tzinfo=UTC), Decimal("1.10"), Order(7, "n" * 100), {"$fc:dict": 1}, 1 << 3000,
]  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_chains_round_trip(name: str, value: object) -> None:
    codec = CHAINS[name]
    data = codec.encode(value)
    assert len(data) <= codec.max_bytes
    found = codec.decode(data)
    assert found == value
    assert type(found) is type(value)
    assert codec.snapshot(value) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=15,
)


@given(JSON)
def test_any_plain_value_comes_back_through_a_chain(value: object) -> None:
    codec = CHAINS["both"]
    assert codec.decode(codec.encode(value)) == value


async def test_typed_inputs_work_through_a_chain() -> None:
    async def note(ctx: NodeContext[Order, Any]) -> str:
        assert type(ctx.input) is Order
        await ctx.context.set("order", ctx.input)
        return ctx.input.note

    runtime = FlowRuntime(
        blueprints=[Blueprint("b", (Node("a", "note"),))], registry={"note": note}, codec=CHAINS["both"]
    )
    result = await runtime.run("b", {"id": 1, "note": "plain data as the annotated type"})
    assert result.raise_for_failure().output() == "plain data as the annotated type"
    assert (await runtime.run("b", Order(2, "itself"))).context["order"] == Order(2, "itself")


# ---- compression


def test_small_values_stay_readable_and_large_ones_shrink() -> None:
    codec = CompressingCodec(json(), above=100)
    assert codec.encode("x" * 98) == b'"' + b"x" * 98 + b'"'
    assert len(codec.encode("x" * 100_000)) < 2_000


def test_what_does_not_shrink_is_stored_as_it_is() -> None:
    codec = CompressingCodec(json(), above=10)
    noise = "".join(random.Random(1).choices("".join(map(chr, range(0x4E00, 0x9000))), k=40))
    assert codec.encode(noise) == json().encode(noise)


def test_values_of_before_and_after_mix() -> None:
    value = {"k": "v" * 5000}
    for writer in (json(), CompressingCodec(json(), above=10), CompressingCodec(json(), above=9_999)):
        assert CompressingCodec(json()).decode(writer.encode(value)) == value


def test_an_inner_value_that_begins_like_a_compressed_one_is_not_mistaken_for_one() -> None:
    class Raw(WrappingCodec):
        def encode(self, value: object) -> bytes:
            assert isinstance(value, bytes)
            return value

        def decode(self, data: bytes) -> object:
            return data

    codec = CompressingCodec(Raw(JsonCodec()))
    for data in (b"\xfcz\x01", b"\xfcz\x01" + zlib.compress(b"x"), os.urandom(30), b""):
        assert codec.decode(codec.encode(data)) == data


def test_a_bomb_is_refused_before_it_expands() -> None:
    bomb = b"\xfcz\x01" + zlib.compress(b'"' + b"x" * 200_000_000 + b'"', 9)
    assert len(bomb) < 250_000
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLarge, match="expands"):
            CompressingCodec(JsonCodec()).decode(bomb)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_the_limit_of_the_inner_codec_holds_when_decoding() -> None:
    small = CompressingCodec(JsonCodec(max_bytes=1000), above=10)
    assert small.decode(small.encode("x" * 998)) == "x" * 998
    with pytest.raises(PayloadTooLarge, match="1000"):
        small.decode(CompressingCodec(JsonCodec(), above=10).encode("x" * 999))


@pytest.mark.parametrize("change", ["cut", "flip", "follow", "empty"])
def test_damaged_compression_is_a_typed_error(change: str) -> None:
    codec = CompressingCodec(json(), above=10)
    data = bytearray(codec.encode(SECRET * 50))
    if change == "cut":
        del data[-5:]
    elif change == "flip":
        data[len(data) // 2] ^= 0xFF
    elif change == "follow":
        data += b"more"
    else:
        del data[3:]
    with pytest.raises(Tampered) as caught:
        codec.decode(bytes(data))
    assert SECRET[:8] not in str(caught.value)


# ---- encryption


def test_nothing_of_the_value_is_in_the_bytes_and_equal_values_differ() -> None:
    codec = EncryptingCodec(json(), {"a": A})
    made = {codec.encode(SECRET) for _ in range(50)}
    assert len(made) == 50
    assert not any(SECRET.encode() in data or A in data for data in made)
    assert codec.confidential
    assert not json().confidential
    assert CompressingCodec(codec).confidential
    assert not CompressingCodec(json()).confidential
    assert SECRET not in repr(codec)
    assert repr(A) not in repr(codec)


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    old, both, new = ({"a": A}, {"b": B, "a": A}, {"b": B})
    by_old, by_both = EncryptingCodec(json(), old).encode(SECRET), EncryptingCodec(json(), both).encode(SECRET)
    assert EncryptingCodec(json(), both).decode(by_old) == SECRET
    assert EncryptingCodec(json(), new).decode(by_both) == SECRET
    with pytest.raises(KeyMissing, match="'b'") as caught:
        EncryptingCodec(json(), old).decode(by_both)
    assert caught.value.key_id == "b"
    with pytest.raises(KeyMissing, match="'a'"):
        EncryptingCodec(json(), new).decode(by_old)


def test_another_key_under_the_same_id_is_a_missing_key_and_no_damage() -> None:
    """Which of the two it is decides whether a visit fails or is left to a process that has the key."""
    data = EncryptingCodec(json(), {"a": A}).encode(SECRET)
    with pytest.raises(KeyMissing, match="is not the key 'a'"):
        EncryptingCodec(json(), {"a": B}).decode(data)


@settings(max_examples=300)
@given(st.data())
def test_every_change_is_noticed(data: st.DataObject) -> None:
    codec = EncryptingCodec(json(), {"key": A})
    whole = codec.encode(SECRET)
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    if data.draw(st.booleans()):
        changed[at] ^= data.draw(st.integers(1, 255))
    else:
        del changed[at:]
    with pytest.raises((Tampered, KeyMissing, Misconfigured)) as caught:
        codec.decode(bytes(changed))
    texts = [str(e) for e in (caught.value, caught.value.__cause__, caught.value.__context__) if e is not None]
    assert not any(SECRET in text for text in texts)
    body_changed = at >= len(b"\xfce\x01") + 1 + len(b"key") + 4 and len(changed) == len(whole)
    assert not body_changed or type(caught.value) is Tampered


def test_what_is_not_encrypted_is_refused() -> None:
    with pytest.raises(Misconfigured, match="without encryption"):
        EncryptingCodec(json(), {"a": A}).decode(json().encode("planted by somebody with access to the database"))


@pytest.mark.parametrize("name", ["compressing", "encrypting", "both"])
def test_a_process_with_another_codec_is_misconfigured(name: str) -> None:
    """Not a SerializationError: that would fail the node in a rolling deploy, and another worker can read it."""
    with pytest.raises(Misconfigured, match="the codec"):
        json().decode(CHAINS[name].encode("x" * 5000))
    with pytest.raises(SerializationError):
        json().decode(b"\xfc other bytes")


@pytest.mark.parametrize(
    ("keys", "word"),
    [({}, "at least one"), ({"a": b"short"}, "32 bytes"), ({"a": "a" * 32}, "32 bytes"), ({"": A}, "id"),
     ({"x" * 65: A}, "id"), ({"a\n": A}, "id"), ({7: A}, "id")],
)  # fmt: skip
def test_unusable_keys_are_refused_without_telling_them(keys: Any, word: str) -> None:
    with pytest.raises(InvalidRequest, match=word) as caught:
        EncryptingCodec(json(), keys)
    assert "short" not in str(caught.value)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(Misconfigured, match=r"flowcraft-core\[crypto\]"):
        EncryptingCodec(json(), {"a": A})


def test_importing_the_codecs_needs_no_extra() -> None:
    script = "import sys; import flowcraft.codecs; assert not any(m.startswith('cryptography') for m in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=50)  # noqa: S603 - our own text


# ---- fingerprints

SAME = [
    ({"a": 1, "b": [{"x": 1, "y": 2}]}, {"b": [{"y": 2, "x": 1}], "a": 1}),
    (Order(1, "n"), Order(1, "n")),
    ({"o": Order(1, "n"), "t": (1,)}, {"t": (1,), "o": Order(1, "n")}),
]
OTHER: list[tuple[object, object]] = [
    (1, 1.0), (1, True), ("1", 1), ([1], (1,)), (None, "null"), ({"a": 1}, {"a": 2}), ([1, 2], [2, 1]),
    (Order(1, "n"), {"id": 1, "note": "n", "price": Decimal("1.50")}), ({}, []), (0.0, -0.0),
]  # fmt: skip


@pytest.mark.parametrize("codec", [json(), *CHAINS.values()])
def test_a_fingerprint_is_of_the_value(codec: Codec) -> None:
    for left, right in SAME:
        assert codec.fingerprint(left) == codec.fingerprint(right)
    for left, right in OTHER:
        assert codec.fingerprint(left) != codec.fingerprint(right)
    assert codec.fingerprint("a", "b") != codec.fingerprint("ab") != codec.fingerprint("b", "a")
    with pytest.raises(SerializationError):
        codec.fingerprint({"x": float("nan")})
    with pytest.raises(SerializationError):
        codec.fingerprint({"\ud800": 1})


def test_a_keyed_fingerprint_survives_rotation_and_tells_nothing() -> None:
    old, both = EncryptingCodec(json(), {"a": A}), EncryptingCodec(json(), {"b": B, "a": A})
    stored = old.fingerprint("yes")
    assert both.fingerprint("yes") != stored
    assert both.fingerprint("yes", like=stored) == stored
    assert both.fingerprint("no", like=stored) != stored
    assert both.fingerprint("yes", like=both.fingerprint("yes")) == both.fingerprint("yes")
    assert EncryptingCodec(json(), {"a": B}).fingerprint("yes") != stored, "guessing needs the key"
    assert json().fingerprint("yes") not in stored
    with pytest.raises(KeyMissing, match="'a'"):
        EncryptingCodec(json(), {"b": B}).fingerprint("yes", like=stored)
