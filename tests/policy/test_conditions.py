"""Conditions: what holds, what does not, and what nobody knows."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from kms.errors import KmsError
from kms.identity.model import NEVER, Token
from kms.operation import Capability
from kms.policy import Context, capabilities, compile_acl, decide, has_sudo, parse
from kms.policy.conditions import refuted, unmet
from tests.identity.wire import Server

MONDAY = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def at(text: str) -> float:
    """Seconds of "mon 08:30" in the week of MONDAY."""
    day, clock = text.split()
    hour, minute = map(int, clock.split(":"))
    number = ("mon", "tue", "wed", "thu", "fri", "sat", "sun").index(day)
    return MONDAY.replace(hour=hour, minute=minute).timestamp() + number * 86_400


def rule(block: str, grants: str = '"read"') -> str:
    return f'path "a" {{\n capabilities = [{grants}]\n conditions {{\n {block}\n }}\n}}'


OFFICE = 'time { days = ["mon", "tue"]\n start = "08:00"\n end = "18:00" }'
NIGHT = 'time { days = ["fri"]\n start = "22:00"\n end = "06:00" }'
TWO = 'time { start = "08:00"\n end = "09:00" }\n time { start = "20:00"\n end = "24:00" }'

# (block, context, the condition that is not met or "", whether it is known to fail)
CASES: list[tuple[str, Context, str, bool]] = [
    (OFFICE, Context(now=at("mon 08:00")), "", False),
    (OFFICE, Context(now=at("tue 17:59")), "", False),
    (OFFICE, Context(now=at("mon 18:00")), "time", True),
    (OFFICE, Context(now=at("mon 07:59")), "time", True),
    (OFFICE, Context(now=at("wed 12:00")), "time", True),
    (OFFICE, Context(), "time", False),
    (NIGHT, Context(now=at("fri 22:00")), "", False),
    (NIGHT, Context(now=at("sat 05:59")), "", False),
    (NIGHT, Context(now=at("sat 06:00")), "time", True),
    (NIGHT, Context(now=at("sat 22:30")), "time", True),
    (NIGHT, Context(now=at("fri 05:00")), "time", True),
    (TWO, Context(now=at("sun 08:30")), "", False),
    (TWO, Context(now=at("sun 23:59")), "", False),
    (TWO, Context(now=at("sun 12:00")), "time", True),
    ('not_before = "2026-11-30T12:00:00Z"', Context(now=MONDAY.timestamp()), "", False),
    ('not_before = "2026-11-30T12:00:00Z"', Context(now=MONDAY.timestamp() - 1), "time", True),
    ('not_after = "2026-11-30T13:00:00+01:00"', Context(now=MONDAY.timestamp() - 1), "", False),
    ('not_after = "2026-11-30T13:00:00+01:00"', Context(now=MONDAY.timestamp()), "time", True),
    ('networks = ["10.0.0.0/8", "2001:db8::/32"]', Context(peer="10.9.8.7"), "", False),
    ('networks = ["10.0.0.0/8", "2001:db8::/32"]', Context(peer="2001:db8::1"), "", False),
    ('networks = ["10.0.0.0/8"]', Context(peer="::ffff:10.0.0.1"), "", False),
    ('networks = ["10.0.0.0/8"]', Context(peer="11.0.0.1"), "network", True),
    ('networks = ["10.0.0.0/8"]', Context(peer="2001:db8::1"), "network", True),
    ('networks = ["10.0.0.0/8"]', Context(peer=""), "network", False),
    ('networks = ["10.0.0.0/8"]', Context(peer="@unix"), "network", False),
    ("mfa = true", Context(mfa=True), "", False),
    ("mfa = true", Context(mfa=False), "mfa", True),
    ("mfa = true", Context(), "mfa", False),
    ('tags = { environment = ["test", "staging"] }', Context(tags={"environment": "staging"}), "", False),
    ('tags = { environment = "test" }', Context(tags={"environment": "prod"}), "tags", True),
    ('tags = { environment = "test" }', Context(tags={"region": "test"}), "tags", False),
    (f"{OFFICE}\n mfa = true", Context(now=at("mon 09:00"), mfa=True), "", False),
    (f"{OFFICE}\n mfa = true", Context(now=at("mon 09:00")), "mfa", False),
    (f"{OFFICE}\n mfa = true", Context(now=at("sun 09:00")), "time", True),
]


@pytest.mark.parametrize(("block", "context", "missing", "fails"), CASES)
def test_a_rule_counts_when_its_conditions_hold(
    block: str, context: Context, missing: str, *, fails: bool
) -> None:
    document = parse(rule(block))
    conditions = document.rules[0].conditions
    assert conditions is not None
    assert (unmet(conditions, context), refuted(conditions, context)) == (missing, fails)
    acl = compile_acl({"p": document})
    decision = decide(acl, "a", Capability.READ, context=context)
    assert (decision.allowed, decision.why) == ((True, "granted") if not missing else (False, "condition"))
    assert decision.rule == "p:a"
    assert capabilities(acl, "a", context) == (["read"] if not missing else ["deny"])
    # In doubt, what is denied is denied.
    guarded = compile_acl({"p": parse(rule(block, '"deny"') + '\npath "a" { capabilities = ["read"] }')})
    assert decide(guarded, "a", Capability.READ, context=context).allowed is fails


def test_only_rules_that_count_are_united() -> None:
    text = """
    path "a" { capabilities = ["read"] }
    path "a" { capabilities = ["update", "sudo"]
      required_parameters = ["reason"]
      conditions { mfa = true } }
    """
    acl = compile_acl({"p": parse(text)})
    assert capabilities(acl, "a", Context(mfa=False)) == ["read"]
    assert capabilities(acl, "a", Context(mfa=True)) == ["read", "sudo", "update"]
    assert decide(acl, "a", Capability.READ, context=Context(mfa=False)).allowed
    assert decide(acl, "a", Capability.READ, context=Context(mfa=True)).why == "parameters"
    assert decide(acl, "a", Capability.UPDATE, context=Context(mfa=False)).why == "condition"
    assert not has_sudo(acl, "a", Context())
    assert has_sudo(acl, "a", Context(mfa=True))


def test_a_pattern_whose_conditions_fail_still_decides() -> None:
    acl = compile_acl({"p": parse('path "*" { capabilities = ["read"] }\n' + rule("mfa = true"))})
    assert not decide(acl, "a", Capability.READ, context=Context(mfa=False)).allowed
    assert decide(acl, "b", Capability.READ, context=Context(mfa=False)).allowed


def test_variants_are_remembered_within_bounds() -> None:
    text = "\n".join(rule(f'tags = {{ t{n} = "x" }}', f'"{grant}"') for n, grant in enumerate(["read"] * 8))
    acl = compile_acl({"p": parse(text)})
    for number in range(200):
        tags = {f"t{bit}": "x" if number >> bit & 1 else "y" for bit in range(8)}
        assert decide(acl, "a", Capability.READ, context=Context(tags=tags)).allowed is bool(number & 255)


def test_a_second_factor_at_login_reaches_the_condition(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.policy("p", rule("mfa = true") + '\npath "auth/token/create" { capabilities = ["update"] }')
    tokens, store = server.first.tokens, server.first.store
    for mfa in (True, False):
        born = Token(
            accessor=f"a{mfa}",
            parent="",
            expires_at=NEVER,
            policies=("default", "p"),
            path="auth/x/login",
            display_name="joe",
            created=0,
            mfa=mfa,
        )
        with store.transaction() as tx:
            token = tokens.insert(tx, born)
        for used in (token, server.token(token, policies=["p"]) if mfa else token):
            ask = ("POST", "sys/capabilities-self", {"paths": ["a"]}, used)
            assert server.call(*ask)[1]["data"]["a"] == (["read"] if mfa else ["deny"])
        body = {"paths": "a", "accessor": f"a{mfa}"}
        assert server.call("POST", "sys/capabilities-accessor", body)[1]["data"]["a"] == (
            ["read"] if mfa else ["deny"]
        )
    server.close()


REFUSED = {
    "nothing": "",
    "unknown": "weather = true",
    "misspelt": 'network = ["10.0.0.0/8"]',
    "mfa false": "mfa = false",
    "mfa a text": 'mfa = "true"',
    "no network": "networks = []",
    "host bits": 'networks = ["10.0.0.1/8"]',
    "no address": 'networks = ["example.test"]',
    "network a number": "networks = [10]",
    "networks a text": 'networks = "10.0.0.0/8"',
    "no day": 'time { days = ["monday"] }',
    "days a text": 'time { days = "mon" }',
    "no time": 'time { start = "8:00" }',
    "after midnight": 'time { start = "24:00" }',
    "no window": 'time { start = "08:00"\n end = "08:00" }',
    "empty time": "time { }",
    "time a text": 'time = "08:00"',
    "time twice inside": 'time { start = "08:00"\n start = "09:00" }',
    "unknown inside": 'time { zone = "CET" }',
    "no date": 'not_before = "tomorrow"',
    "no such date": 'not_before = "2026-02-30T00:00:00Z"',
    "crossed": 'not_before = "2027-01-01T00:00:00Z"\n not_after = "2026-01-01T00:00:00Z"',
    "twice": "mfa = true\n mfa = true",
    "no tags": "tags = { }",
    "tags a list": 'tags = ["x"]',
    "tag without values": "tags = { environment = [] }",
    "tag in capitals": 'tags = { Environment = "x" }',
    "tag twice": 'tags = { e = "x"\n e = "y" }',
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_condition_is_refused(name: str) -> None:
    with pytest.raises(KmsError, match="path 'a'"):
        parse(rule(REFUSED[name]))


def test_conditions_must_be_a_block_and_stand_once() -> None:
    for block in ("conditions = true", "conditions { mfa = true }\n conditions { mfa = true }"):
        with pytest.raises(KmsError, match="conditions"):
            parse(f'path "a" {{ {block} }}')
