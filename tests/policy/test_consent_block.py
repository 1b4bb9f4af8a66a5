"""The block `control_group`: what is read of it, and what is refused."""

from __future__ import annotations

import pytest

from kms.errors import KmsError
from kms.operation import Capability
from kms.policy import compile_acl, decide, parse
from kms.policy.model import ControlGroup, Factor

FACTOR = (
    'factor "ops" { controlled_capabilities = ["read"]\n identity { group_names = ["g"]\n approvals = 1 } }'
)


def text(block: str) -> str:
    return f'path "a" {{\n capabilities = ["read", "update"]\n {block}\n}}'


def group(old: str, new: str) -> str:
    assert old in FACTOR
    return f"control_group {{ {FACTOR.replace(old, new)} }}"


REFUSED = {
    "a text": 'control_group = "x"',
    "unknown": f"control_group {{ max = 1\n {FACTOR} }}",
    "ttl twice": f'control_group {{ ttl = "1h"\n ttl = "2h"\n {FACTOR} }}',
    "no duration": f'control_group {{ ttl = "soon"\n {FACTOR} }}',
    "self a text": f'control_group {{ self_auth_allowed = "yes"\n {FACTOR} }}',
    "factor a text": 'control_group { factor = "ops" }',
    "factor empty": "control_group { factor = { } }",
    "very many factors": "control_group {\n" + "\n".join([FACTOR] * 17) + "\n}",
    "unknown in a factor": 'control_group { factor "ops" { who = "g" } }',
    "unknown in an identity": group("group_names", "names"),
    "capabilities a text": group('["read"]', '"read"'),
    "capability a number": group('["read"]', "[1]"),
    "no person": group("approvals = 1", "approvals = 0"),
    "very many people": group("approvals = 1", "approvals = 65"),
    "true people": group("approvals = 1", "approvals = true"),
    "no group": group('["g"]', "[]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises(KmsError, match="path 'a'"):
        parse(text(REFUSED[name]))


def test_groups_of_several_policies_all_count() -> None:
    other = FACTOR.replace('"ops"', '"more"').replace("group_names", "group_ids")
    documents = {
        "p": parse(text(f'control_group {{ ttl = "1h"\n {FACTOR} }}')),
        "q": parse(text(f"control_group {{ self_auth_allowed = true\n {other} }}")),
        "r": parse(text(f'control_group {{ ttl = "1h"\n {FACTOR} }}')),
    }
    acl = compile_acl(documents)
    factor = Factor(name="ops", capabilities=("read",), groups=("g",), approvals=1)
    more = Factor(name="more", capabilities=("read",), groups=("g",), approvals=1)
    assert decide(acl, "a", Capability.READ).control == (
        ControlGroup(factors=(factor,), ttl=3_600),
        ControlGroup(factors=(more,), self_allowed=True),
    )
    assert decide(acl, "a", Capability.UPDATE).control == ()
    assert decide(acl, "a", Capability.DELETE).control == ()


def test_policy_names_are_canonical() -> None:
    document = parse(text(group('group_names = ["g"]', 'policy_names = ["Lead"]')))
    read = document.rules[0].control_group
    assert read is not None
    assert read.factors[0].policies == ("lead",)
