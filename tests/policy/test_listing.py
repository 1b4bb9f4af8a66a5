"""Listings under a rule: pages, and only keys that the caller could read."""

from __future__ import annotations

from typing import Any

import pytest

from kms.errors import ErrorKind, KmsError
from kms.operation import Call, Capability, Field, MountRef, Operation, Result, Type
from kms.policy import Arguments, Decision, compile_acl, decide, parse
from kms.policy.filtering import compiled, fill
from kms.policy.listing import bound, shown

MOUNT = MountRef(id="m", path="s/", type="kv", accessor="")
KEYS = ["a", "b", "c/", "d"]


def call(fields: tuple[Field, ...] = (), **extra: object) -> Call:
    operation = Operation("x.list", Capability.LIST, lambda _call: Result(), fields=fields)
    return Call(
        operation=operation, path="s/", mount=MOUNT, args={}, request_id="", peer="", door="", extra=extra
    )


def listed(decision: Decision, asked: Call, data: dict[str, Any] | None = None) -> Any:
    result = shown(
        asked, decision, Result(data=data or {"keys": KEYS}), lambda path, _cap: path in {"r/a", "r/c/"}
    )
    return result.data and result.data["keys"]


def granted(limit: int = 0, template: str = "") -> Decision:
    return Decision(allowed=True, rule="p:s/", why="granted", limit=limit, filter_path=template)


def test_pages_of_operations_that_do_not_page() -> None:
    assert listed(granted(limit=2), call()) == ["a", "b"]
    assert listed(granted(limit=2), call(after="b")) == ["c/", "d"]
    assert listed(granted(limit=2), call(after="b", limit="1")) == ["c/"]
    assert listed(granted(limit=2), call(limit="max")) == ["a", "b"]
    assert listed(granted(limit=9), call()) == KEYS


def test_operations_that_page_get_the_bound() -> None:
    asked = call((Field("limit", Type.INT),))
    bound(asked, granted(limit=2))
    assert asked.args["limit"] == 2
    assert listed(granted(limit=2), asked) == KEYS  # the operation saw to it
    asked.args["limit"] = 1
    bound(asked, granted(limit=2))
    assert asked.args["limit"] == 1


def test_only_keys_that_may_be_read_are_shown() -> None:
    template = '{{ .path | replace "s/" "r/" }}{{ .key }}'
    assert listed(granted(template=template), call()) == ["a", "c/"]
    assert listed(granted(limit=1, template=template), call(after="a")) == ["c/"]
    data = {"keys": KEYS, "key_info": {key: {"n": key} for key in KEYS}}
    result = shown(call(), granted(template=template), Result(data=data), lambda path, _cap: path == "r/b")
    assert result.data == {"keys": ["b"], "key_info": {"b": {"n": "b"}}}
    assert result.items == 1


def test_what_is_no_plain_listing_is_not_shown() -> None:
    with pytest.raises(KmsError) as caught:
        listed(granted(template="{{ .key }}"), call(), {"keys": KEYS, "policies": KEYS})
    assert caught.value.kind is ErrorKind.INTERNAL
    assert shown(call(), granted(template="{{ .key }}"), Result(), lambda *_: False).data is None


PAGES: dict[str, tuple[dict[str, Any], bool]] = {
    "none asked": ({}, True),
    "less": ({"limit": "3"}, True),
    "as much": ({"limit": 5}, True),
    "the most": ({"limit": "max"}, True),
    "all": ({"limit": "0"}, True),
    "more": ({"limit": "6"}, False),
    "negative": ({"limit": "-1"}, False),
    "nonsense": ({"limit": "x"}, False),
    "a list": ({"limit": [1]}, False),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_longer_page_than_the_rule_has_is_denied(name: str) -> None:
    extra, allowed = PAGES[name]
    acl = compile_acl({"p": parse('path "s/" { capabilities = ["list"] pagination_limit = 5 }')})
    decision = decide(acl, "s/", Capability.LIST, arguments=Arguments(extra=extra))
    assert (decision.allowed, decision.limit if allowed else 0) == (allowed, 5 if allowed else 0)
    assert allowed or decision.why == "pagination"


def test_a_required_limit_must_be_given() -> None:
    text = 'path "s/" { capabilities = ["list"] pagination_limit = 5 required_parameters = ["limit"] }'
    acl = compile_acl({"p": parse(text)})
    assert not decide(acl, "s/", Capability.LIST).allowed
    known = Arguments(values={"limit": 2}, given=frozenset({"limit"}))
    assert decide(acl, "s/", Capability.LIST, arguments=known).allowed


def test_the_lowest_bound_and_the_first_template_win() -> None:
    texts = {
        "p": 'path "s/" { capabilities = ["list"] pagination_limit = 5 }',
        "q": 'path "s/" { capabilities = ["list"] pagination_limit = 3 list_scan_response_keys_filter_path = "q{{ .key }}" }',
        "r": 'path "s/" { capabilities = ["list"] list_scan_response_keys_filter_path = "r{{ .key }}" }',
    }
    decision = decide(compile_acl({name: parse(text) for name, text in texts.items()}), "s/", Capability.LIST)
    assert (decision.limit, decision.filter_path) == (3, "q{{ .key }}")


FILLED = {
    "{{ .path }}{{ .key }}": "m/a/k",
    "{{- .path -}} {{ .key }}": "m/a/ k",
    "{{.key|uppercase}}": "K",
    '{{ .path | replace "m/" "d/" | uppercase | lowercase }}{{ .key }}': "d/a/k",
    '{{ replace "m" ".path" .path }}{{ .key }}': ".path/a/k",
    "{{ .key | base64 }}{{ .key | sha256 | truncate 4 }}": "aw==8254",
    'x\\{{ "a\\"b" }}{{ .key }}': 'x\\a"bk',
}


@pytest.mark.parametrize("template", FILLED)
def test_templates_are_filled(template: str) -> None:
    assert fill(template, "m/a/", "k") == FILLED[template]


@pytest.mark.parametrize(
    "template",
    [
        "{{ .path }}", "x", "", "{{ .key }}{{ .path", "{{ }}{{ .key }}", "{{ .other }}{{ .key }}", "{{ uuid }}{{ .key }}",
        "{{ .key | }}", "{{ .key .path }}", '{{ .key | replace "a" }}', "{{ .key | truncate x }}", "{{ .key | .path }}",
        '{{ .key | truncate "x" }}', "{{ .key | uppercase lowercase }}", "{{ 5 }}{{ .key }}", "{{ .key ; }}", "{{ .key }}" + "x" * 1_024,
    ],
)  # fmt: skip
def test_templates_that_say_nothing_are_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        compiled(template)
