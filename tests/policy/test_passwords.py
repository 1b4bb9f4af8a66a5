"""Password policies: the same texts to the real server and to ours, and what is generated obeys them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kms.errors import KmsError
from kms.policy.passwords import generate, read_password_rules
from tests.identity.wire import Server
from tests.policy.peer import Peer

AB = 'rule "charset" { charset = "ab" }'

ACCEPTED = {
    "plain": f"length = 20\n{AB}",
    "shortest": f"length = 4\n{AB}",
    "longest": f"length = 100\n{AB}",
    "at least": 'length = 20\nrule "charset" { charset = "abc"\n min-chars = 3 }\nrule "charset" { charset = "0123"\n min-chars = 2 }',
    "all of one": 'length = 8\nrule "charset" { charset = "a"\n min-chars = 8 }',
    "each has its place": 'length = 8\nrule "charset" { charset = "a"\n min-chars = 4 }\nrule "charset" { charset = "b"\n min-chars = 4 }',
    "overlapping": 'length = 8\nrule "charset" { charset = "a"\n min-chars = 4 }\nrule "charset" { charset = "ab"\n min-chars = 4 }',
    "less than none": 'length = 20\nrule "charset" { charset = "ab"\n min-chars = -1 }',
    "twice a character": 'length = 20\nrule "charset" { charset = "aab"\n min-chars = 2 }',
    "other letters": 'length = 20\nrule "charset" { charset = "äöü€"\n min-chars = 1 }',
    "signs": 'length = 20\nrule "charset" { charset = "!@#$%^&*()-_=+[]{}|;:<>,./?~ \\"\\\\" }',
    "JSON": '{"length": 20, "rule": [{"charset": {"charset": "abc", "min-chars": 1}}]}',
    "JSON object": '{"length": 20, "rule": {"charset": {"charset": "abc"}}}',
    "JSON list inside": '{"length": 20, "rule": {"charset": [{"charset": "abc"}, {"charset": "def"}]}}',
}
REFUSED = {
    "nothing": "",
    "too short": f"length = 3\n{AB}",
    "too long": f"length = 101\n{AB}",
    "no length": AB,
    "negative length": f"length = -1\n{AB}",
    "length a text": f'length = "20"\n{AB}',
    "no rule": "length = 20",
    "no charset": 'length = 20\nrule "charset" { }',
    "empty charset": 'length = 20\nrule "charset" { charset = "" }',
    "charset a list": 'length = 20\nrule "charset" { charset = ["a"] }',
    "a newline in it": 'length = 20\nrule "charset" { charset = "a\\nb" }',
    "too many": 'length = 20\nrule "charset" { charset = "a"\n min-chars = 21 }',
    "too many together": 'length = 20\nrule "charset" { charset = "a"\n min-chars = 11 }\nrule "charset" { charset = "b"\n min-chars = 11 }',
    "another rule": 'length = 20\nrule "other" { charset = "a" }',
    "a rule without a kind": 'length = 20\nrule { charset = "a" }',
    "Rule": 'length = 20\nRule "charset" { charset = "ab" }',
    "not closed": "length = 20 {",
}
# Accepted there: name -> (text, why it is refused here).
STRICTER = {
    "unknown": (f"length = 20\nfoo = 1\n{AB}", "a typing mistake"),
    "min_chars": (
        'length = 20\nrule "charset" { charset = "abc"\n min_chars = 3 }',
        "it would demand nothing",
    ),
    "two lengths": (f"length = 20\nlength = 21\n{AB}", "two answers"),
    "fraction": (f"length = 20.5\n{AB}", "a typing mistake"),
    "another case": ('length = 20\nrule "charset" { Charset = "ab" }', "one spelling"),
    "very many characters": (
        'length = 20\nrule "charset" { charset = "' + "".join(map(chr, range(0x4E00, 0x4F00))) + '" }',
        "it can be written there, and generates nothing",
    ),
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_by_both_and_obeyed(peer: Peer, name: str) -> None:
    text = ACCEPTED[name]
    assert peer.call("PUT", "sys/policies/password/probe", {"policy": text})[0] == 204
    rules = read_password_rules(text)
    theirs = peer.call("GET", "sys/policies/password/probe/generate")[1]["data"]["password"]
    for password in (theirs, *(generate(rules) for _ in range(20))):
        assert len(password) == rules.length
        assert set(password) <= set(rules.charset)
        assert all(sum(sign in one.charset for sign in password) >= one.least for one in rules.rules)
    if len(rules.charset) > 1:
        assert len({generate(rules) for _ in range(20)}) > 1


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_both(peer: Peer, name: str) -> None:
    assert peer.call("PUT", "sys/policies/password/probe", {"policy": REFUSED[name]})[0] == 400
    with pytest.raises(KmsError):
        read_password_rules(REFUSED[name])


@pytest.mark.parametrize("name", STRICTER)
def test_refused_by_us_alone(peer: Peer, name: str) -> None:
    text, _why = STRICTER[name]
    assert peer.call("PUT", "sys/policies/password/probe", {"policy": text})[0] == 204
    with pytest.raises(KmsError):
        read_password_rules(text)


@pytest.mark.parametrize(
    "text",
    [
        "#" * 20_000,
        '{"length": 20, "rule": ' + "[" * 100 + "]" * 100 + "}",
        '{"length": 20, "rule": "x"}',
        '{"length": 20',
        "length = 99\n" + AB * 65,
        '{"length": 20, "rule": {"charset": "abc"}}',
    ],
)
def test_strange_texts_are_refused(text: str) -> None:
    with pytest.raises(KmsError):
        read_password_rules(text)


P = "sys/policies/password"
TEXT = ACCEPTED["plain"]
REQUESTS: list[tuple[str, str, Any]] = [
    ("LIST", P, None),
    ("GET", f"{P}/x", None),
    ("GET", f"{P}/x/generate", None),
    ("DELETE", f"{P}/x", None),
    ("PUT", f"{P}/x", {}),
    ("PUT", f"{P}/x", {"policy": ""}),
    ("PUT", f"{P}/x", {"policy": REFUSED["too short"]}),
    ("PUT", f"{P}/x", {"policy": TEXT}),
    ("PUT", f"{P}/x", {"policy": ACCEPTED["shortest"]}),
    ("GET", f"{P}/x", None),
    ("PUT", f"{P}/X", {"policy": base64.b64encode(TEXT.encode()).decode()}),
    ("GET", f"{P}/X", None),
    ("POST", f"{P}/x/generate", {}),
    ("LIST", P, None),
    ("DELETE", f"{P}/x", None),
    ("GET", f"{P}/x", None),
]


def test_the_api_is_the_real_servers(peer: Peer, server: Server) -> None:
    for name in ("probe", "x", "X"):
        peer.call("DELETE", f"{P}/{name}")
    for method, path, body in REQUESTS:
        ours, theirs = server.call(method, path, body), peer.call(method, path, body)
        assert ours[0] == theirs[0], (method, path, body, ours, theirs)
        if theirs[1] is not None and "data" in theirs[1]:
            assert ours[1]["data"] == theirs[1]["data"]
        elif theirs[1] is not None:
            assert [_bare(text) for text in ours[1]["errors"]] == [
                _bare(text) for text in theirs[1]["errors"]
            ]


def _bare(text: str) -> str:
    return (text.partition("* ")[2] or text).partition(":")[0].strip()


def test_a_password_for_whoever_makes_one(server: Server) -> None:
    server.call("PUT", f"{P}/x", {"policy": TEXT})
    status, answer = server.call("GET", f"{P}/x/generate")
    assert (status, len(answer["data"]["password"])) == (200, 20)
    token = server.token(policies=["default"])
    assert server.call("GET", f"{P}/x/generate", token=token)[0] == 403
