"""Policy texts: accepted, refused, bounded."""

from __future__ import annotations

import json

import pytest

from kms.clock import SystemClock
from kms.errors import ErrorKind, KmsError
from kms.policy import capabilities, compile_acl, parse
from kms.policy.language import MAX_RULES, MAX_TEXT
from tests.policy.peer import Peer
from tests.policy.texts import ACCEPTED, PROBES, REFUSED, STRICTER


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_by_both_and_meant_alike(peer: Peer, name: str) -> None:
    assert peer.put_policy("probe", ACCEPTED[name]) == 204
    acl = compile_acl({"probe": parse(ACCEPTED[name])}, now=SystemClock().now())
    theirs = peer.capabilities(peer.token(["probe"]), PROBES)
    # A path with '..' or '//' is never granted here; the peer matches it as text.
    ours = {path: capabilities(acl, path) for path in PROBES if ".." not in path}
    assert ours == {path: found for path, found in theirs.items() if path in ours}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_both(peer: Peer, name: str) -> None:
    assert peer.put_policy("probe", REFUSED[name]) == 400
    if REFUSED[name]:  # "nothing" is refused by the service, which knows that the argument is missing
        _refused(REFUSED[name])


@pytest.mark.parametrize("name", STRICTER)
def test_refused_by_us_alone(peer: Peer, name: str) -> None:
    assert peer.put_policy("probe", STRICTER[name][0]) == 204
    _refused(STRICTER[name][0])


def _refused(text: str) -> KmsError:
    with pytest.raises(KmsError) as caught:
        parse(text)
    assert caught.value.kind is ErrorKind.INVALID
    assert len(caught.value.detail) > 10
    return caught.value


BOMBS = {
    "lists": 'path "a" { capabilities = ' + "[" * 2_000 + "]" * 2_000 + " }",
    "objects": "path " + "{" * 5_000,
    "parentheses": 'path "a" { capabilities = ' + "(" * 5_000 + " }",
    "JSON lists": '{"path": ' + "[" * 100_000,
    "JSON objects": '{"a":' * 100_000,
    "too long": "#" * (MAX_TEXT + 1),
    "too many paths": json.dumps({"path": [{f"p{n}": {}} for n in range(MAX_RULES + 1)]}),
    "too many values": f'path "a" {{ allowed_parameters = {{ f = {json.dumps(["x"] * 1_001)} }} }}',
    "long path": f'path "{"a" * 2_000}" {{ }}',
    "long number": 'path "a" { max_wrapping_ttl = ' + "9" * 5_000 + " }",
    "huge number": '{"path": {"a": {"allowed_parameters": {"f": [1e999]}}}}',
    "not a number": '{"path": {"a": {"allowed_parameters": {"f": [NaN]}}}}',
    "long JSON number": '{"path": {"a": {"allowed_parameters": {"f": [' + "9" * 5_000 + "]}}}}",
    "heredocs": "x = <<A\n" + "\n" * 60_000,
    "unclosed comment": "/*" * 50_000,
    "quotes": '"' * 60_001,
    "lone surrogate": '{"path": {"a\\ud800": {}}}',
    "no character": 'path "a\\UFFFFFFFF" { }',
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_quickly(name: str) -> None:
    parse('path "a" { }')  # the parser is loaded once; that is not what is measured
    clock = SystemClock()
    began = clock.monotonic()
    _refused(BOMBS[name])
    assert clock.monotonic() - began < 10


def test_the_longest_policy_is_read_in_bounded_time() -> None:
    block = 'path "secret/data/team/x" {\n  capabilities = ["create", "read", "update"]\n}\n'
    text = block * (MAX_TEXT // len(block))
    clock = SystemClock()
    began = clock.monotonic()
    assert len(parse(text).rules) > 1_000
    assert clock.monotonic() - began < 15


def test_repeated_denied_parameters_never_get_fewer() -> None:
    rule = parse('path "a" { denied_parameters = { f = ["x"] }\n denied_parameters = { F = [] } }').rules[0]
    assert rule.denied == {"f": ()}
    rule = parse('path "a" { denied_parameters = { f = [] }\n denied_parameters = { f = ["x"] } }').rules[0]
    assert rule.denied == {"f": ()}


def test_error_names_the_place() -> None:
    assert "line 3" in _refused('path "a" {\n}\npath "b" [\n').detail
    assert "path 'a'" in _refused('path "a" { capabilities = ["fly"] }').detail
