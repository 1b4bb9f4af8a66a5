"""What a role lets through. Pure: names and settings in, the names of the certificate or a refusal out.

Every limit applies to every name, whether it came from a CSR or from a field of the request (OpenBao
GHSA-g892: a limit on one input only; Let's Encrypt 2020-02-29: one name checked N times). Refusals
have the peer's texts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from kms.errors import KmsError, invalid
from pki.model import Role
from pki.names import BadName, IpAddress, Names, check_dns, check_email, check_uri, is_hostname, looks_like_ip

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class RoleRules:
    """A role made ready for checking; made once per stored role."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self._networks = parse_networks(role.allowed_ip_sans_cidr)
        self._others = parse_allowed_others(role.allowed_other_sans)

    def check(self, names: Names, display_name: str, source: str) -> None:
        """Refuse the request at the first name that the role does not allow.

        `source` is "the API" or "CSR", for the texts.

        Raises:
            KmsError(INVALID): which name, and that this role does not allow it.
        """
        self._check_common_name(names.common_name, display_name)
        if names.serial_number and not _any_glob(self.role.allowed_serial_numbers, names.serial_number):
            raise invalid(f"serial_number {names.serial_number} not allowed by this role")
        for name in names.dns:
            self._check_dns(name, display_name)
        for address in names.emails:
            self._check_email(address, display_name)
        for ip in names.ips:
            self._check_ip(ip, source)
        for uri in names.uris:
            self._check_uri(uri, source)
        for oid, text in names.others:
            self._check_other(oid, text)
        for user_id in names.user_ids:
            if not _any_glob(self.role.allowed_user_ids, user_id):
                raise invalid(f"user_id {user_id} is not allowed by this role")

    def _check_common_name(self, name: str, display_name: str) -> None:
        role = self.role
        if not name:
            if role.require_cn:
                raise invalid(
                    "the common_name field is required, or must be provided in a CSR with"
                    ' "use_csr_common_name" set to true, unless "require_cn" is set to false'
                )
            return
        if not self._common_name_allowed(name, display_name):
            raise invalid(f"common name {name} not allowed by this role")

    def _common_name_allowed(self, name: str, display_name: str) -> bool:
        if looks_like_ip(name):
            return False
        validations = self.role.cn_validations
        if validations == ("disabled",):
            return True
        kind = "email" if "@" in name else "hostname"
        return self._name_allowed(name, display_name) and (not validations or kind in validations)

    def _check_dns(self, name: str, display_name: str) -> None:
        try:
            check_dns(name)
        except BadName as bad:
            raise invalid(f"subject alternate name {name} not allowed by this role: {bad}") from None
        if not self._name_allowed(name, display_name):
            raise invalid(f"subject alternate name {name} not allowed by this role")

    def _check_email(self, address: str, display_name: str) -> None:
        try:
            check_email(address)
        except BadName as bad:
            raise invalid(f"email address {address} not allowed by this role: {bad}") from None
        if not self._name_allowed(address, display_name):
            raise invalid(f"email address {address} not allowed by this role")

    def _check_ip(self, ip: IpAddress, source: str) -> None:
        if not self.role.allow_ip_sans:
            raise invalid(
                f"IP Subject Alternative Names are not allowed in this role, but was provided via {source}"
            )
        if self._networks and not any(ip in network for network in self._networks):
            raise invalid(f'the IP address "{ip}" is not allowed in this role')

    def _check_uri(self, uri: str, source: str) -> None:
        if not self.role.allowed_uri_sans:
            raise invalid(
                f"URI Subject Alternative Names are not allowed in this role, but were provided via {source}"
            )
        if not _any_glob(self.role.allowed_uri_sans, uri):
            raise invalid(
                f"URI Subject Alternative Names were provided via {source} which are not valid for this role"
            )
        try:
            check_uri(uri)
        except BadName as bad:
            raise invalid(f"the URI {uri} cannot stand in a certificate: {bad}") from None

    def _check_other(self, oid: str, text: str) -> None:
        if "*" in self._others:
            return
        if oid not in self._others:
            raise invalid(f"other SAN OID {oid} not allowed by this role")
        if not _any_glob(self._others[oid], text):
            raise invalid(f"other SAN {text} not allowed for OID {oid} by this role")

    # -- host names and the host parts of addresses -----------------------------------------------

    def _name_allowed(self, name: str, display_name: str) -> bool:
        role = self.role
        local, at, host = name.rpartition("@")
        if "@" in local or (at and (not local or not host)):
            return False
        wildcard = "*" in host
        if wildcard and (at or not role.allow_wildcard_certificates or not host.startswith("*.")):
            return False
        base = host.removeprefix("*.") if wildcard else host
        if "*" in base or (role.enforce_hostnames and not is_hostname(base)):
            return False
        if role.allow_any_name:
            return True
        return (
            self._localhost(base, wildcard=wildcard)
            or self._display_name(name, base, display_name, wildcard=wildcard)
            or any(self._in_domain(name, base, domain, wildcard=wildcard) for domain in role.allowed_domains)
        )

    def _localhost(self, base: str, *, wildcard: bool) -> bool:
        if not self.role.allow_localhost:
            return False
        if base in {"localhost", "localdomain"}:
            return not wildcard or self.role.allow_subdomains
        return self.role.allow_subdomains and base.endswith((".localhost", ".localdomain"))

    def _display_name(self, name: str, base: str, display_name: str, *, wildcard: bool) -> bool:
        if not self.role.allow_token_displayname or not display_name:
            return False
        if name == display_name:
            return True
        return self.role.allow_subdomains and (
            base.endswith("." + display_name) or (wildcard and base == display_name)
        )

    def _in_domain(self, name: str, base: str, domain: str, *, wildcard: bool) -> bool:
        role = self.role
        if not domain:
            return False
        same = base.lower() == domain.lower()
        # `base` of an address is its host part, so a bare domain also allows addresses at it; and the list may name
        # one address, or one wildcard, which then is allowed itself.
        if role.allow_bare_domains and ((same and not wildcard) or name.lower() == domain.lower()):
            return True
        if role.allow_subdomains and (base.endswith("." + domain) or (wildcard and same)):
            return True
        return role.allow_glob_domains and "*" in domain and glob_match(domain, name)


def glob_match(pattern: str, text: str) -> bool:
    """`*` matches any run of characters, also none; everything else is itself. Linear."""
    parts = pattern.split("*")
    if len(parts) == 1:
        return pattern == text
    first, last = parts[0], parts[-1]
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in parts[1:-1]:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """CIDR limits. Raises KmsError(INVALID)."""
    networks = []
    for text in texts:
        try:
            address, slash, length = text.strip().partition("/")
            networks.append(ipaddress.ip_network(f"{address}/{length}" if slash else "", strict=False))
        except ValueError:
            raise invalid(f"error parsing allowed_ip_sans_cidr: invalid CIDR address: {text}") from None
    return tuple(networks)


def parse_other_san(text: str) -> tuple[str, str]:
    """`oid;utf8:value` to (oid, value). Raises KmsError(INVALID)."""
    oid, semicolon, rest = text.partition(";")
    if not semicolon:
        raise invalid(f'expected a semicolon in other SAN "{text}"')
    kind, colon, value = rest.partition(":")
    if not colon or kind.strip().lower() not in {"utf8", "utf-8"} or not value:
        raise invalid(f'other SAN "{text}" must be written as OID;utf8:value')
    return oid.strip(), value


def parse_allowed_others(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The role's list: OID -> globs; the single entry `*` allows all."""
    if tuple(texts) == ("*",):
        return {"*": ("*",)}
    allowed: dict[str, tuple[str, ...]] = {}
    for text in texts:
        try:
            oid, glob = parse_other_san(text)
        except KmsError as error:
            raise invalid(f"error parsing allowed_other_sans: {error.detail}") from None
        allowed[oid] = (*allowed.get(oid, ()), glob)
    return allowed


def _any_glob(patterns: Iterable[str], text: str) -> bool:
    return any(glob_match(pattern, text) for pattern in patterns)
