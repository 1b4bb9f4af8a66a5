"""Lenient fields, in tables taken from the real server's answers."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.durations import seconds
from kms.errors import KmsError
from kms.http.vault.coerce import Plan, coerce
from kms.operation import Call, Capability, Field, Operation, Result, Type

BAD = object()
CASES: list[tuple[Type, Any, Any]] = [
    (Type.STRING, "x", "x"),
    (Type.STRING, 5, "5"),
    (Type.STRING, Decimal("1.50"), "1.50"),
    (Type.STRING, True, "1"),
    (Type.STRING, False, "0"),
    (Type.STRING, None, ""),
    (Type.STRING, ["a"], BAD),
    (Type.STRING, {"a": 1}, BAD),
    (Type.INT, 1, 1),
    (Type.INT, "1", 1),
    (Type.INT, "-1", -1),
    (Type.INT, "", 0),
    (Type.INT, True, 1),
    (Type.INT, Decimal("1.0"), BAD),
    (Type.INT, Decimal("1E+3"), BAD),
    (Type.INT, "x", BAD),
    (Type.INT, "1.5", BAD),
    (Type.INT, [1], BAD),
    (Type.INT, 99999999999999999999, BAD),
    (Type.INT, "9" * 5000, BAD),
    (Type.INT, 2**63 - 1, 2**63 - 1),
    (Type.INT, -(2**63), -(2**63)),
    (Type.INT, 2**63, BAD),
    (Type.INT, "١", BAD),  # noqa: RUF001  (an Arabic digit, which str.isdigit would take)
    (Type.BOOL, True, True),
    (Type.BOOL, "true", True),
    (Type.BOOL, "T", True),
    (Type.BOOL, "0", False),
    (Type.BOOL, "", False),
    (Type.BOOL, 1, True),
    (Type.BOOL, 0, False),
    (Type.BOOL, "yes", BAD),
    (Type.BOOL, "x", BAD),
    (Type.BOOL, [], BAD),
    (Type.SECONDS, 3600, 3600),
    (Type.SECONDS, "3600", 3600),
    (Type.SECONDS, "1h", 3600),
    (Type.SECONDS, "1h30m", 5400),
    (Type.SECONDS, "1.5h", 5400),
    (Type.SECONDS, "90m0.5s", 5400),
    (Type.SECONDS, "2160h0m0s", 7776000),
    (Type.SECONDS, "1d", 86400),
    (Type.SECONDS, "1000ms", 1),
    (Type.SECONDS, "", 0),
    (Type.SECONDS, "0", 0),
    (Type.SECONDS, -5, BAD),
    (Type.SECONDS, "-1h", BAD),
    (Type.SECONDS, "x", BAD),
    (Type.SECONDS, "1h 2m", BAD),
    (Type.SECONDS, " 1h", BAD),
    (Type.SECONDS, "1w", BAD),
    (Type.SECONDS, "1y", BAD),
    (Type.SECONDS, Decimal("1.5"), BAD),
    (Type.SECONDS, "7200.9", BAD),
    (Type.SECONDS, True, BAD),
    (Type.SECONDS, [], BAD),
    (Type.SECONDS, "1" * 200, BAD),
    (Type.STRINGS, ["a", "b"], ["a", "b"]),
    (Type.STRINGS, "a,b", ["a", "b"]),
    (Type.STRINGS, "a, b", ["a", "b"]),
    (Type.STRINGS, '["a","b"]', ['["a"', '"b"]']),  # as the real server
    (Type.STRINGS, '[{"a": "b, c"}, {"d": 1}]', ['{"a":"b, c"}', '{"d":1}']),
    (Type.STRINGS, "[" * 9999, ["[" * 9999]),
    (Type.STRINGS, "a,,b", ["a", "b"]),
    (Type.STRINGS, "", []),
    (Type.STRINGS, 5, ["5"]),
    (Type.STRINGS, [1, 2], ["1", "2"]),
    (Type.STRINGS, [" a "], ["a"]),
    (Type.STRINGS, {"a": 1}, BAD),
    (Type.STRINGS, [["a"]], BAD),
    (Type.MAP, {"a": "b"}, {"a": "b"}),
    (Type.MAP, ["a=b", "c=d=e"], {"a": "b", "c": "d=e"}),
    (Type.MAP, "a=b", {"a": "b"}),
    (Type.MAP, [], {}),
    (Type.MAP, '{"a":"b"}', BAD),
    (Type.MAP, 5, BAD),
    (Type.ITEMS, [{"a": 1}], [{"a": 1}]),
    (Type.ITEMS, [], []),
    (Type.ITEMS, {}, BAD),
    (Type.ITEMS, "x", BAD),
    (Type.ITEMS, [1], BAD),
    (Type.ITEMS, ["x"], BAD),
    (Type.ANY, {"a": [None]}, {"a": [None]}),
]


@pytest.mark.parametrize(("kind", "value", "expected"), CASES)
def test_table(kind: Type, value: Any, expected: Any) -> None:
    field = Field("f", kind)
    if expected is BAD:
        with pytest.raises(KmsError) as refusal:
            coerce(field, value)
        assert refusal.value.detail.startswith(
            'Field validation failed: error converting input for field "f"'
        )
    else:
        assert coerce(field, value) == expected


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(list(Type)), _json)
def test_anything_is_converted_or_refused(kind: Type, value: Any) -> None:
    with suppress(KmsError):
        coerce(Field("f", kind), value)


@given(st.text(max_size=80))
def test_durations_never_crash(text: str) -> None:
    with suppress(ValueError):
        assert isinstance(seconds(text), int)


def _act(_call: Call) -> Result:
    return Result()


PLAN = Plan(
    Operation(
        "x",
        Capability.UPDATE,
        _act,
        fields=(
            Field("name"),
            Field("text"),
            Field("size", Type.INT, default=7),
            Field("must", required=True),
        ),
    )
)


def test_defaults_and_given() -> None:
    args, given_names, warnings = PLAN.arguments({"must": "m", "text": None, "size": None}, {"name": "n"})
    assert args == {"name": "n", "text": "", "size": 7, "must": "m"}
    assert given_names == {"name", "must", "text"}
    assert warnings == ()


def test_the_path_wins_and_strangers_are_named() -> None:
    args, _, warnings = PLAN.arguments({"must": "m", "name": "evil", "zz": 1, "aa": 2}, {"name": "n"})
    assert args["name"] == "n"
    assert "zz" not in args
    assert warnings == (
        "Endpoint ignored these unrecognized parameters: [aa zz]",
        "Endpoint replaced the value of these parameters with the values captured from the endpoint's path: [name]",
    )


def test_required() -> None:
    with pytest.raises(KmsError, match="missing must"):
        PLAN.arguments({}, {})


def test_defaults_are_not_shared() -> None:
    first, _, _ = PLAN.arguments({"must": "m"}, {})
    first["size"] = 99
    second, _, _ = PLAN.arguments({"must": "m"}, {})
    assert second["size"] == 7


def test_a_document_takes_the_whole_body() -> None:
    plan = Plan(Operation("x", Capability.UPDATE, _act, fields=(Field("*", Type.MAP),)))
    args, _, warnings = plan.arguments({"a": 1, "path": "evil"}, {"path": "p"})
    assert args == {"*": {"a": 1, "path": "evil"}, "path": "p"}
    assert all("ignored" not in warning for warning in warnings)
