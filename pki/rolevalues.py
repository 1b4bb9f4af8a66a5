"""Roles whose names are templates: the caller's entity put into them, for one request."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from kms.policy.templating import UnrenderableError, render, templated
from pki.roles import RoleRules


def for_identity(rules: RoleRules, values: Mapping[str, str]) -> RoleRules:
    """The rules as they are for a caller with these values.

    A template without a value, or with one that would mean more than itself, allows nothing, as on the peer: `*`
    passes where the role says so, and '/' and ',' never (T-46).
    """
    role = rules.role
    if not (role.allowed_domains_template or role.allowed_uri_sans_template):
        return rules
    let_in = "*" if role.allow_globs_in_identity_templates else ""
    domains, uris = role.allowed_domains, role.allowed_uri_sans
    if role.allowed_domains_template:
        domains = _filled(domains, values, let_in)
    if role.allowed_uri_sans_template:
        uris = _filled(uris, values, let_in)
    return RoleRules(replace(role, allowed_domains=domains, allowed_uri_sans=uris))


def _filled(texts: tuple[str, ...], values: Mapping[str, str], let_in: str) -> tuple[str, ...]:
    done = []
    for text in texts:
        try:
            done.append(render(text, values, let_in) if templated(text) else text)
        except UnrenderableError:
            continue
    return tuple(done)
