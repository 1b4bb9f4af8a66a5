"""One spelling per path (T-59): what is refused, what is redirected, what is passed on."""

from __future__ import annotations

import pytest

from kms.errors import KmsError
from kms.http.vault.canonical import MAX_PATH_BYTES, Redirect, canonical, query_fields, wants_list
from kms.http.vault.route import Rendered

REFUSED = {
    "dots": b"/v1/transit/keys/../policies",
    "one dot": b"/v1/transit/./keys",
    "dots at the end": b"/v1/transit/keys/..",
    "encoded dots": b"/v1/transit/%2e%2e/sys",
    "half encoded dots": b"/v1/transit/.%2E/sys",
    "encoded slash": b"/v1/transit/keys/a%2fb",
    "encoded slash, upper case": b"/v1/transit/keys/a%2Fb",
    "twice encoded slash": b"/v1/transit/keys/a%252fb",
    "twice encoded backslash": b"/v1/transit/keys/a%255cb",
    "backslash": b"/v1/transit/keys/a\\b",
    "encoded backslash": b"/v1/transit/keys/a%5cb",
    "encoded zero": b"/v1/transit/keys/a%00b",
    "zero": b"/v1/transit/keys/a\x00b",
    "newline": b"/v1/transit/keys/a%0ab",
    "delete": b"/v1/transit/keys/a%7fb",
    "not UTF-8": b"/v1/transit/keys/%ff",
    "overlong slash": b"/v1/transit/keys/%c0%af",
    "surrogate": b"/v1/transit/keys/%ed%a0%80",
    "line separator": b"/v1/transit/keys/%e2%80%a8",
    "too long": b"/v1/" + b"a" * MAX_PATH_BYTES,
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED.keys())
def test_refused(raw: bytes) -> None:
    with pytest.raises(KmsError) as refusal:
        canonical(raw)
    assert refusal.value.kind in ("invalid", "too_large")


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/v1/transit/keys/a", "transit/keys/a"),
        (b"/v1/transit/keys/", "transit/keys/"),
        (b"/v1/transit/keys/%61", "transit/keys/a"),
        (b"/v1/a.b/..c/d..", "a.b/..c/d.."),
        (b"/v1/x/%c3%a4", "x/ä"),
        (b"/v1/x/a:b;c=d@e", "x/a:b;c=d@e"),
        (b"/v1/", ""),
    ],
)
def test_passed_on(raw: bytes, path: str) -> None:
    assert canonical(raw) == path


@pytest.mark.parametrize("raw", [b"/", b"/v1", b"/v2/x", b"/V1/x", b"", b"v1/x", b"*", b"http://h/v1/x"])
def test_not_ours(raw: bytes) -> None:
    found = canonical(raw)
    assert found is None or isinstance(found, Redirect)  # "http://" holds a double slash


@pytest.mark.parametrize(
    ("raw", "location"),
    [
        (b"/v1//x", "/v1/x"),
        (b"//v1/x", "/v1/x"),
        (b"//evil.example/v1", "/evil.example/v1"),
        (b"/v1/a///b//", "/v1/a/b/"),
    ],
)
def test_double_slash_is_redirected_to_this_server(raw: bytes, location: str) -> None:
    found = canonical(raw)
    assert isinstance(found, Redirect)
    assert found.location == location
    assert not found.location.startswith("//")


@pytest.mark.parametrize(
    ("fields", "listing"),
    [
        ({}, False),
        ({"list": "true"}, True),
        ({"list": "1"}, True),
        ({"list": "T"}, True),
        ({"list": ""}, False),
        ({"list": "false"}, False),
    ],
)
def test_list(fields: dict[str, str], listing: bool) -> None:
    assert wants_list(dict(fields)) is listing


def test_list_that_is_no_boolean() -> None:
    answer = wants_list({"list": "foo"})
    assert isinstance(answer, Rendered)
    assert (answer.status, answer.body) == (400, b'{"errors":[]}\n')


@pytest.mark.parametrize("query", [b"a=%ff", b"&".join(b"a=1" for _ in range(65)), b"a=\xff"])
def test_bad_query(query: bytes) -> None:
    with pytest.raises(KmsError):
        query_fields(query)


def test_query() -> None:
    assert query_fields(b"a=1&b=&a=2&c=%20x") == {"a": "2", "b": "", "c": " x"}
