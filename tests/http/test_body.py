"""Bodies: JSON and forms, and the bounds of T-57."""

from __future__ import annotations

import resource
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.errors import KmsError
from kms.http.vault.body import FORM, MAX_BODY_BYTES, check_patch, parse

JSON = "application/json"
GROWTH_BYTES = 64 * 1024 * 1024

GOOD: list[tuple[bytes, str, dict[str, Any]]] = [
    (b"", JSON, {}),
    (b"  \n", JSON, {}),
    (b"null", JSON, {}),
    (b'{"a":1}', JSON, {"a": 1}),
    (b'{"a":1}', "", {"a": 1}),
    (b'{"a":1}', "text/plain", {"a": 1}),
    (b'{"a":1}', "application/json; charset=utf-8", {"a": 1}),
    (b'{"a":1,"a":2}', JSON, {"a": 2}),
    (b'{"a":1.50}', JSON, {"a": Decimal("1.50")}),
    (b'{"a":123456789012345678901234567890}', JSON, {"a": 123456789012345678901234567890}),
    (b"a=1&b=%20x", FORM, {"a": "1", "b": " x"}),
    (b"a=1&a=2", FORM, {"a": ["1", "2"]}),
    (b'{"a":1}', FORM, {"a": 1}),  # curl -d
]
BAD: list[tuple[bytes, str, str]] = [
    (b"bad", JSON, "failed to decode JSON input: invalid character 'b' looking for beginning of value"),
    (b"{bad", JSON, "failed to decode JSON input: invalid character 'b' looking for beginning of value"),
    (b'{"a":', JSON, "failed to decode JSON input: unexpected EOF"),
    (b'{"a":"[', JSON, "failed to decode JSON input: unexpected EOF"),
    (b'{"a":NaN}', JSON, "failed to decode JSON input: invalid character 'N' looking for beginning of value"),
    (b"[]", JSON, "cannot unmarshal array"),
    (b'"x"', JSON, "cannot unmarshal string"),
    (b"5", JSON, "cannot unmarshal number"),
    (b"5.5", JSON, "cannot unmarshal number"),
    (b"true", JSON, "cannot unmarshal bool"),
    (b'{"a":1}{}', JSON, "after top-level value"),
    (b'{"a":"\xff"}', JSON, "failed to decode JSON input"),
    (b'{"a":"\\ud800"}', JSON, "failed to decode JSON input"),  # a lone surrogate
    (b'{"a":"\\udc00\\ud800"}', JSON, "failed to decode JSON input"),
    (b'{"a":"\x01"}', JSON, "failed to decode JSON input"),
    (b"\xef\xbb\xbf{}", JSON, "failed to decode JSON input"),
    (b'{"a":' + b"1" * 5000 + b"}", JSON, "failed to decode JSON input"),
    (b'{"a":' + b"[" * 100_000, JSON, "exceeded max depth"),
    (b'{"a":' * 50_000, JSON, "exceeded max depth"),
    (b"%zz=1&&", FORM, "error parsing form data"),
    (b"a=%ff", FORM, "error parsing form data"),
    (b"&".join(b"a=1" for _ in range(2000)), FORM, "error parsing form data"),
]


@pytest.mark.parametrize(("body", "kind", "fields"), GOOD)
def test_good(body: bytes, kind: str, fields: dict[str, Any]) -> None:
    assert parse(body, kind) == fields


@pytest.mark.parametrize(
    ("body", "kind", "text"), BAD, ids=[text[:40] + str(i) for i, (*_, text) in enumerate(BAD)]
)
def test_bad(body: bytes, kind: str, text: str) -> None:
    with pytest.raises(KmsError) as refusal:
        parse(body, kind)
    assert refusal.value.kind == "invalid"
    assert text in refusal.value.detail


BOMBS = {
    "a million keys": b"{" + b",".join(b'"k%d":1' % i for i in range(1_000_000)) + b"}",
    "a million numbers": b'{"a":[' + b"1," * 1_000_000 + b"1]}",
    "a million empty objects": b'{"a":[' + b"{}," * 1_000_000 + b"{}]}",
    "a million strings": b'{"a":[' + b'"",' * 1_000_000 + b'""]}',
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_bombs_are_refused_before_anything_is_built(bomb: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with pytest.raises(KmsError, match="high complexity"):
        parse(bomb, JSON)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < GROWTH_BYTES


def test_a_large_batch_is_no_bomb() -> None:
    item = b'{"plaintext":"aGVsbG8gd29ybGQ=","context":"YWJj","reference":"r"},'
    body = b'{"batch_input":[' + item * 20_000 + item[:-1] + b"]}"
    assert len(parse(body, JSON)["batch_input"]) == 20_001


def test_too_large() -> None:
    with pytest.raises(KmsError) as refusal:
        parse(b" " * (MAX_BODY_BYTES + 1), JSON)
    assert refusal.value.kind == "too_large"


@given(st.binary(max_size=200), st.sampled_from([JSON, FORM, "", "x"]))
def test_any_bytes_are_fields_or_a_refusal(body: bytes, kind: str) -> None:
    with suppress(KmsError):
        assert isinstance(parse(body, kind), dict)


@pytest.mark.parametrize("kind", ["", "application/json", "text/plain"])
def test_patch_needs_its_type(kind: str) -> None:
    with pytest.raises(KmsError) as refusal:
        check_patch(kind)
    assert refusal.value.status == 415


def test_patch_type() -> None:
    check_patch("application/merge-patch+json; charset=utf-8")
