"""certs/search: certificates by name, key, issuer, state and expiry.

The narrowest thing asked for is looked up in the index; the rest is compared with the certificates found. A page
reads at most `EXAMINED` of them, however many there are, and says where the next one begins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kms.errors import invalid
from kms.operation import Call, Result
from kms.tables import Reader, Store
from pki.authority import Authorities
from pki.index import ALL, INDEX, CertificateIndex, Looks, Term, looks, named, position
from pki.model import Certificate, CertificateState, parse_serial, wire_serial
from pki.names import BadName, check_dns, check_email, check_ip, check_uri, is_hostname
from pki.store import CERTIFICATES
from pki.validity import parse_time

LIMIT, LIMIT_MAX = 100, 500
EXAMINED = 1000
WAITING = 500
STATES = ("valid", "expired", "revoked", "unknown", "pending", "failed")
_ISSUER_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_FOREVER = 10**11
_BEHIND = (
    "the index is being made: certificates that were issued lately, or before an upgrade, may be missing"
)


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for, in canonical form; empty means any."""

    common_name: str
    dns: str
    domain: str
    email: str
    ip: str
    uri: str
    key: str
    issuer_id: str
    role: str
    state: str
    since: int  # of notAfter, the first that counts
    until: int  # and the last

    def term(self) -> Term:
        """The narrowest term of the index."""
        choices: tuple[tuple[str, str], ...] = (
            ("key", self.key),
            ("uri", self.uri),
            ("ip", self.ip),
            ("email", self.email),
            named(self.common_name),
            ("domain", self.dns.removeprefix("*.")),
            # A domain of one label is none that is kept: it would hold nearly everything.
            ("domain", self.domain if "." in self.domain else ""),
            ("issuer", self.issuer_id),
        )
        return next((choice for choice in choices if choice[1]), ALL)

    def matches(self, certificate: Certificate, now: int) -> bool:
        """Whether it is asked for."""
        if not self.since <= certificate.not_after <= self.until:
            return False
        if self.issuer_id not in {"", certificate.issuer_id} or self.role not in {"", certificate.role}:
            return False
        if self.state and self.state != state(certificate, now):
            return False
        return self._named(looks(certificate))

    def _named(self, seen: Looks) -> bool:
        return (
            self.key in {"", seen.key}
            and self.common_name in {"", seen.common_name}
            and _in(self.dns, seen.dns)
            and _in(self.email, seen.emails)
            and _in(self.ip, seen.ips)
            and _in(self.uri, seen.uris)
            and (not self.domain or any(_within(host, self.domain) for host in seen.hosts))
        )


@dataclass(frozen=True)
class CertificateSearch:
    """One per process."""

    store: Store
    authorities: Authorities
    index: CertificateIndex

    def search(self, call: Call) -> Result:
        """One page, by expiry."""
        query, mount_id, now = self._query(call), call.mount.id, int(call.now)
        limit = int(call.args.get("limit") or LIMIT)
        if not 0 < limit <= LIMIT_MAX:
            raise invalid(f"limit must be between 1 and {LIMIT_MAX}")
        reader = self.store.reader()
        after = self._after(reader, mount_id, str(call.args.get("after") or ""))
        # Looked at first: what leaves the queue meanwhile is in the index by then.
        waiting = self.index.waiting(reader, mount_id, WAITING)
        lines, whole = self._lines(reader, mount_id, query, after)
        found: dict[str, Certificate] = {}
        examined = 0
        for certificate in _read(reader, [f"{mount_id}/{line.rpartition('/')[2]}" for line in lines]):
            examined += 1
            if certificate is not None and query.matches(certificate, now):
                found[position(certificate)] = certificate
                if len(found) == limit:
                    break
        whole = whole and examined == len(lines)
        end = "" if whole else lines[examined - 1]
        for certificate in _read(reader, waiting):
            if certificate is None or not query.matches(certificate, now):
                continue
            place = position(certificate)
            if place > after and (whole or place <= end):
                found[place] = certificate
        places = sorted(found)[:limit]
        more = len(found) > limit or not whole
        last = places[-1] if len(found) > limit else end
        shown = {wire_serial(found[place].serial): _info(found[place], now) for place in places}
        return Result(
            data={
                "keys": list(shown),
                "key_info": shown,
                "next_after": wire_serial(last.rpartition("/")[2]) if more else "",
            },
            items=len(shown),
            warnings=(_BEHIND,) if len(waiting) == WAITING else (),
        )

    def _lines(self, reader: Reader, mount_id: str, query: Query, after: str) -> tuple[list[str], bool]:
        """Positions that the index gives, and whether these are all up to the end that was asked for."""
        prefix = self.index.prefix(mount_id, query.term())
        begin = max(after, f"{query.since:012d}/") if query.since else after
        keys = reader.keys(INDEX, prefix, after=prefix + begin, limit=EXAMINED)
        positions = [key.removeprefix(prefix) for key in keys]
        beyond = f"{query.until:012d}/~"
        wanted = [place for place in positions if place < beyond]
        return wanted, len(wanted) < EXAMINED

    def _after(self, reader: Reader, mount_id: str, text: str) -> str:
        if not text:
            return ""
        serial = parse_serial(text)
        row = reader.get(CERTIFICATES, f"{mount_id}/{serial}") if serial else None
        if row is None:
            raise invalid(f"after: no certificate with serial {text} is on record")
        return position(row.value)

    def _issuer_id(self, mount_id: str, ref: str) -> str:
        if not ref or _ISSUER_ID.match(ref):  # one that is gone has certificates still
            return ref
        return self.authorities.issuer(mount_id, ref).id

    def _query(self, call: Call) -> Query:
        args = call.args
        wanted = str(args.get("state") or "").lower()
        if wanted and wanted not in STATES:
            raise invalid(f"state must be one of {', '.join(STATES)}")
        return Query(
            common_name=str(args.get("common_name") or ""),
            dns=_checked(args, "dns_name", check_dns).lower(),
            domain=_checked(args, "domain", _check_domain).lower(),
            email=_checked(args, "email", check_email).lower(),
            ip=_checked(args, "ip_address", lambda text: str(check_ip(text))),
            uri=_checked(args, "uri", check_uri),
            key=_checked(args, "public_key_sha256", _check_digest),
            issuer_id=self._issuer_id(call.mount.id, str(args.get("issuer_ref") or "")),
            role=str(args.get("role") or ""),
            state=wanted,
            since=_time(args, "expires_after", 0),
            until=_time(args, "expires_before", _FOREVER),
        )


def state(certificate: Certificate, now: int) -> str:
    """One of `STATES`. Revoked wins over expired: it is what an auditor asks for."""
    named = {
        CertificateState.INTENT: "pending",
        CertificateState.FAILED: "failed",
        CertificateState.UNKNOWN: "unknown",
    }.get(CertificateState(certificate.state))
    if named:
        return named
    if certificate.revoked_at:
        return "revoked"
    return "valid" if certificate.not_after >= now else "expired"


def _read(reader: Reader, keys: list[str]) -> Iterator[Certificate | None]:
    for key in keys:
        row = reader.get(CERTIFICATES, key)
        yield row.value if row is not None else None


def _info(certificate: Certificate, now: int) -> dict[str, Any]:
    seen = looks(certificate)
    return {
        "common_name": seen.common_name,
        "dns_names": sorted(seen.dns),
        "email_addresses": sorted(seen.emails),
        "ip_addresses": sorted(seen.ips),
        "uris": sorted(seen.uris),
        "public_key_sha256": seen.key,
        "issuer_id": certificate.issuer_id,
        "role": certificate.role,
        "profile": certificate.profile,
        "state": state(certificate, now),
        "not_before": certificate.not_before,
        "expiration": certificate.not_after,
        "revocation_time": certificate.revoked_at,
    }


def _checked(args: Mapping[str, Any], name: str, check: Callable[[str], str]) -> str:
    text = str(args.get(name) or "").strip()
    try:
        return check(text) if text else ""
    except BadName as bad:
        raise invalid(f"{name}: {bad}") from None


def _check_domain(text: str) -> str:
    if not is_hostname(text) or text.startswith("*"):
        raise BadName("give a domain name; what lies below it is found too")
    return text


def _check_digest(text: str) -> str:
    plain = text.replace(":", "").lower()
    if len(plain) != 64 or any(character not in "0123456789abcdef" for character in plain):
        raise BadName("give the SHA-256 of the SubjectPublicKeyInfo in hex")
    return plain


def _time(args: Mapping[str, Any], name: str, default: int) -> int:
    text = str(args.get(name) or "")
    if not text:
        return default
    return min(int(text), _FOREVER) if text.isascii() and text.isdigit() else max(parse_time(text), 0)


def _within(host: str, domain: str) -> bool:
    return host == domain or host.endswith("." + domain)


def _in(wanted: str, found: frozenset[str]) -> bool:
    return not wanted or wanted in found
