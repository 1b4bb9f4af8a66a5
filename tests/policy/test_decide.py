"""Rows of the decision: order of patterns, deny, sudo, parameters, wrapping, canonical paths, templates."""

from __future__ import annotations

from typing import Any

import pytest

from kms.errors import ErrorKind, KmsError
from kms.operation import Capability
from kms.policy import Acl, Arguments, capabilities, compile_acl, decide, has_sudo, parse

READ, UPDATE, LIST = Capability.READ, Capability.UPDATE, Capability.LIST


def acl(*texts: str, values: dict[str, str] | None = None) -> Acl:
    return compile_acl({f"p{n}": parse(text) for n, text in enumerate(texts, 1)}, values)


def grant(path: str, *names: str) -> str:
    listed = ", ".join(f'"{name}"' for name in names)
    return f'path "{path}" {{ capabilities = [{listed}] }}\n'


# name -> (policies, path, capability, allowed, rule, why)
DECISIONS: dict[str, tuple[list[str], str, Capability, bool, str, str]] = {
    "nothing said": ([], "a", READ, False, "", "no_rule"),
    "another path": ([grant("a", "read")], "b", READ, False, "", "no_rule"),
    "another capability": ([grant("a", "read")], "a", UPDATE, False, "p1:a", "capability"),
    "nothing granted": ([grant("a")], "a", READ, False, "p1:a", "capability"),
    "granted": ([grant("a", "read")], "a", READ, True, "p1:a", "granted"),
    "granted by the second": ([grant("a", "list"), grant("a", "read")], "a", READ, True, "p2:a", "granted"),
    "granted by both": ([grant("a", "read"), grant("a", "read")], "a", READ, True, "p1+p2:a", "granted"),
    "deny wins in one pattern": ([grant("a", "read"), grant("a", "deny")], "a", READ, False, "p2:a", "deny"),
    "a broad deny loses": (
        [grant("*", "deny"), grant("a/*", "read")],
        "a/b",
        READ,
        True,
        "p2:a/*",
        "granted",
    ),
    "a narrow deny wins": ([grant("*", "read"), grant("a/*", "deny")], "a/b", READ, False, "p2:a/*", "deny"),
    "create is not update": ([grant("a", "create")], "a", UPDATE, False, "p1:a", "capability"),
    "case matters": ([grant("a", "read")], "A", READ, False, "", "no_rule"),
    "a folder is not its contents": ([grant("a", "read")], "a/", READ, False, "", "no_rule"),
    "a list of the folder": ([grant("a/", "list")], "a", LIST, True, "p1:a/", "granted"),
    "a list falls back": ([grant("a", "list")], "a/", LIST, True, "p1:a", "granted"),
    # GHSA-xp3c: the rule for the folder decides, not one that only matches without the slash.
    "no list round a deny": ([grant("+", "list"), grant("a/*", "deny")], "a", LIST, False, "p2:a/*", "deny"),
    # CVE-2026-3605: whatever a door forgot.
    "a step up": ([grant("a/*", "read")], "a/../b", READ, False, "", "path"),
    "a step nowhere": ([grant("a/*", "read")], "a/./b", READ, False, "", "path"),
    "an empty step": ([grant("a/*", "read")], "a//b", READ, False, "", "path"),
    "a slash in front": ([grant("*", "read")], "/a", READ, False, "", "path"),
    "dots in a name": ([grant("a/*", "read")], "a/b..c", READ, True, "p1:a/*", "granted"),
}


@pytest.mark.parametrize("name", DECISIONS)
def test_decision(name: str) -> None:
    texts, path, capability, allowed, rule, why = DECISIONS[name]
    decision = decide(acl(*texts), path, capability)
    assert (decision.allowed, decision.rule, decision.why) == (allowed, rule, why)


def test_root_may_everything() -> None:
    root = compile_acl({"x": parse(grant("a", "deny"))}, root=True)
    assert decide(root, "a", READ, sudo=True).rule == "root:*"
    assert capabilities(root, "a") == ["root"]
    assert has_sudo(root, "anything")
    assert root.covers("secret/")


def test_sudo_must_stand_in_the_deciding_pattern() -> None:
    rules = acl(grant("sys/*", "read", "sudo") + grant("sys/raw", "read"))
    assert decide(rules, "sys/x", READ, sudo=True).allowed
    assert decide(rules, "sys/raw", READ, sudo=True).why == "sudo"
    assert has_sudo(rules, "sys/x")
    assert not has_sudo(rules, "sys/raw")
    assert not has_sudo(rules, "other")


# name -> (attributes of the rule, values sent, allowed)
PARAMETERS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "required and missing": ('required_parameters = ["ttl"]', {"x": 1}, False),
    "required and nothing sent": ('required_parameters = ["ttl"]', {}, False),
    "required and sent": ('required_parameters = ["TTL"]', {"ttl": "1h"}, True),
    "denied": ("denied_parameters = { x = [] }", {"x": 1}, False),
    "denied in other case": ("denied_parameters = { X = [] }", {"x": 1}, False),
    "denied but not sent": ("denied_parameters = { x = [] }", {"y": 1}, True),
    "all denied": ('denied_parameters = { "*" = [] }', {"y": 1}, False),
    "all denied, nothing sent": ('denied_parameters = { "*" = [] }', {}, True),
    "denied value": ('denied_parameters = { x = ["a"] }', {"x": "a"}, False),
    "another value": ('denied_parameters = { x = ["a"] }', {"x": "b"}, True),
    "denied value inside a list": ('denied_parameters = { x = ["root"] }', {"x": ["a", "root"]}, False),
    "denied number as text": ('denied_parameters = { x = ["5"] }', {"x": 5}, False),
    "denied duration in seconds": ('denied_parameters = { x = ["24h"] }', {"x": 86_400}, False),
    "denied boolean": ("denied_parameters = { x = [true] }", {"x": True}, False),
    "denied boolean as text": ('denied_parameters = { x = ["true"] }', {"x": True}, False),
    "one is not true": ("denied_parameters = { x = [1] }", {"x": True}, True),
    "allowed": ("allowed_parameters = { x = [] }", {"x": 1}, True),
    "not among the allowed": ("allowed_parameters = { x = [] }", {"x": 1, "y": 1}, False),
    "others allowed": ('allowed_parameters = { x = ["a"], "*" = [] }', {"y": 1}, True),
    "others allowed, this one not": ('allowed_parameters = { x = ["a"], "*" = [] }', {"x": "b"}, False),
    "allowed value": ('allowed_parameters = { x = ["a"] }', {"x": "a"}, True),
    "another than the allowed": ('allowed_parameters = { x = ["a"] }', {"x": "b"}, False),
    "every item allowed": ('allowed_parameters = { x = ["a", "b"] }', {"x": ["a", "b"]}, True),
    "one item not allowed": ('allowed_parameters = { x = ["a"] }', {"x": ["a", "root"]}, False),
    "an empty list": ('allowed_parameters = { x = ["a"] }', {"x": []}, False),
    "null": ('allowed_parameters = { x = ["a"] }', {"x": None}, False),
    "glob behind": ('allowed_parameters = { x = ["a*"] }', {"x": "abc"}, True),
    "glob before": ('allowed_parameters = { x = ["*c"] }', {"x": "abc"}, True),
    "globs around": ('allowed_parameters = { x = ["*b*"] }', {"x": "abc"}, True),
    "glob misses": ('allowed_parameters = { x = ["b*"] }', {"x": "abc"}, False),
    "a star alone is a star": ('allowed_parameters = { x = ["*"] }', {"x": "abc"}, False),
    "a star in the middle is a star": ('allowed_parameters = { x = ["a*c"] }', {"x": "abc"}, False),
    "duration in seconds": ('allowed_parameters = { x = ["1h"] }', {"x": 3_600}, True),
    "another duration": ('allowed_parameters = { x = ["1h"] }', {"x": 3_601}, False),
    "number as text": ('allowed_parameters = { x = ["5"] }', {"x": 5}, True),
    "text is no number": ('allowed_parameters = { x = ["five"] }', {"x": 5}, False),
    "number": ("allowed_parameters = { x = [5, 1.5] }", {"x": 5}, True),
    "denied beats allowed": (
        'allowed_parameters = { x = ["a"] }\ndenied_parameters = { x = ["a"] }',
        {"x": "a"},
        False,
    ),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    attributes, sent, allowed = PARAMETERS[name]
    rules = acl(f'path "a" {{\n capabilities = ["read", "update", "delete", "list"]\n {attributes}\n}}')
    arguments = Arguments({"default": "not sent"} | sent, frozenset(sent))
    for capability in (READ, UPDATE):
        decision = decide(rules, "a", capability, arguments=arguments)
        assert decision.allowed is allowed
        assert allowed or decision.why == "parameters"
    # Deleting and listing have no parameters to speak of.
    assert decide(rules, "a", Capability.DELETE, arguments=arguments).allowed
    assert decide(rules, "a", LIST, arguments=arguments).allowed


@pytest.mark.parametrize(
    ("texts", "sent", "allowed"),
    [
        (['x = ["a"]', 'x = ["b"]'], {"x": "b"}, True),
        (['x = ["a"]', 'x = ["b"]'], {"x": "c"}, False),
        (['x = ["a"]', "x = []"], {"x": "c"}, True),
        (["", 'x = ["a"]'], {"x": "c"}, False),
        (["", 'x = ["a"]'], {"y": "c"}, False),
    ],
)
def test_allowed_parameters_of_one_pattern_are_united(
    texts: list[str], sent: dict[str, Any], *, allowed: bool
) -> None:
    """As the peer does, with its quirk: a rule without parameters does not lift another's."""
    bodies = [
        f'path "a" {{ capabilities = ["update"]\n allowed_parameters = {{ {text} }} }}'
        if text
        else grant("a", "update")
        for text in texts
    ]
    for order in (bodies, bodies[::-1]):
        found = decide(acl(*order), "a", UPDATE, arguments=Arguments(sent, frozenset(sent)))
        assert found.allowed is allowed


@pytest.mark.parametrize(
    ("attributes", "ttl", "allowed"),
    [
        ('max_wrapping_ttl = "5m"', 0, False),
        ('max_wrapping_ttl = "5m"', 300, True),
        ('max_wrapping_ttl = "5m"', 301, False),
        ('min_wrapping_ttl = "1m"', 0, False),
        ('min_wrapping_ttl = "1m"', 59, False),
        ('min_wrapping_ttl = "1m"', 60, True),
        ('min_wrapping_ttl = "1m" max_wrapping_ttl = "5m"', 100, True),
        ('comment = "none"', 0, True),
        ('comment = "none"', 100, True),
    ],
)
def test_wrapping(attributes: str, ttl: int, *, allowed: bool) -> None:
    rules = acl(f'path "a" {{ capabilities = ["read"] {attributes} }}')
    decision = decide(rules, "a", READ, arguments=Arguments(wrap_ttl=ttl))
    assert decision.allowed is allowed
    assert allowed or decision.why == "wrapping"


def test_bounds_that_cross_after_uniting_let_nothing_pass() -> None:
    rules = acl(
        'path "a" { capabilities = ["read"] min_wrapping_ttl = "10m" }',
        'path "a" { capabilities = ["read"] max_wrapping_ttl = "5m" }',
    )
    assert not any(
        decide(rules, "a", READ, arguments=Arguments(wrap_ttl=ttl)).allowed for ttl in (0, 300, 600)
    )


# -- templates --------------------------------------------------------------------------------------

ENTITY = grant("secret/{{identity.entity.id}}/*", "read") + grant("secret/{{identity.entity.name}}", "deny")


def test_a_template_without_value_applies_to_nobody() -> None:
    assert not decide(acl(ENTITY), "secret//x", READ).allowed
    assert not decide(acl(ENTITY), "secret/{{identity.entity.id}}/x", READ).allowed
    assert not decide(acl(ENTITY, values={"identity.entity.id": ""}), "secret//x", READ).allowed


def test_a_template_is_filled() -> None:
    rules = acl(ENTITY, values={"identity.entity.id": "e1"})
    assert decide(rules, "secret/e1/x", READ).rule == "p1:secret/e1/*"
    assert not decide(rules, "secret/e2/x", READ).allowed


@pytest.mark.parametrize("value", ["*", "e+", "a/b", "a,b", "a\nb", "a b", "\x7f", "+"])
def test_a_value_that_reads_as_a_pattern_allows_nothing(value: str) -> None:
    """T-46, GHSA-59w7: all rules are withheld, because one of them may be a deny."""
    with pytest.raises(KmsError) as caught:
        acl(ENTITY, grant("*", "read"), values={"identity.entity.id": value})
    assert caught.value.kind is ErrorKind.DENIED
    assert value not in caught.value.detail or value == "+"


# -- mounts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "covered"),
    [
        (grant("secret/data/x", "read"), True),
        (grant("secret/*", "read"), True),
        (grant("*", "read"), True),
        (grant("+/data/*", "read"), True),
        (grant("secret/+/x", "read"), True),
        (grant("se*", "read"), True),
        (grant("secret/data/x", "deny"), False),
        (grant("secret/data/x"), False),
        (grant("secrets/*", "read"), False),
        (grant("other/+/x", "read"), False),
        (grant("+", "read"), False),
        (grant("*", "read") + grant("secret/*", "deny"), False),
        (grant("secret/*", "deny") + grant("secret/a", "read"), True),
    ],
)
def test_covers(text: str, *, covered: bool) -> None:
    assert acl(text).covers("secret/") is covered


def test_found_patterns_are_remembered_within_bounds() -> None:
    rules = acl(grant("a/*", "read"))
    for number in range(2_000):
        assert decide(rules, f"a/{number}", READ).allowed
        assert not decide(rules, f"b/{number}", READ).allowed
    assert len(rules._memo) <= 256


def test_parts_of_the_path_are_no_parameters() -> None:
    rules = acl('path "a" { capabilities = ["update"]\n allowed_parameters = { text = [] } }')
    given = frozenset({"name", "text"})
    assert decide(rules, "a", UPDATE, arguments=Arguments({}, given, frozenset({"name"}))).allowed
    assert not decide(rules, "a", UPDATE, arguments=Arguments({}, given)).allowed
