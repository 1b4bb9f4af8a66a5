"""Profiles that a role chooses by name. Each decides usages, constraints and what names it needs.

    tls-server     serverAuth; a DNS name or an IP address
    tls-client     clientAuth
    mtls           both; a DNS name or an IP address
    spiffe         an X509-SVID: both usages, exactly one SPIFFE ID, no common name
    code-signing   codeSigning alone; a subject
    ocsp           OCSPSigning alone and id-pkix-ocsp-nocheck (RFC 6960 4.2.2.2); a subject
    ca             a CA that signs leaves only (pathLenConstraint 0); a subject; for the key of a CSR

A role without one has the usages that its flags say, as in the peer. `no_rev_avail` is no profile but may go with
those of end entities: nobody can ask whether such a certificate was revoked, and it says so (RFC 9608).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from kms.errors import invalid
from pki.model import DAY, Role
from pki.names import Names
from pki.profiles.draft import Extensions

SHORT_LIVED_MAX = 7 * DAY  # CA/B BR 1.6.1, "Short-lived Subscriber Certificate", from 2026-03-15

_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
_NO_REV_AVAIL = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.56"), b"\x05\x00")
_SIGNS = ("DigitalSignature",)
_SIGNS_AND_RSA = ("DigitalSignature", "KeyEncipherment")


@dataclass(frozen=True, slots=True)
class NamedProfile:
    """What a profile fixes.

    Args:
        usages: extended key usages, none for a CA.
        key_usage: in the role's words; the key's type decides which of them fit.
        host: it needs a DNS name or an IP address.
        subject: it needs a subject.
    """

    usages: tuple[x509.ObjectIdentifier, ...]
    key_usage: tuple[str, ...] = _SIGNS
    host: bool = False
    subject: bool = False


PROFILES: Mapping[str, NamedProfile] = {
    "tls-server": NamedProfile((_SERVER,), _SIGNS_AND_RSA, host=True),
    "tls-client": NamedProfile((_CLIENT,)),
    "mtls": NamedProfile((_SERVER, _CLIENT), _SIGNS_AND_RSA, host=True),
    "spiffe": NamedProfile((_SERVER, _CLIENT)),
    "code-signing": NamedProfile((ExtendedKeyUsageOID.CODE_SIGNING,), subject=True),
    "ocsp": NamedProfile((ExtendedKeyUsageOID.OCSP_SIGNING,), subject=True),
    "ca": NamedProfile((), subject=True),
}

# A role says these itself; under a profile they are its own or nothing.
_FLAGS = {
    "server_flag": _SERVER,
    "client_flag": _CLIENT,
    "code_signing_flag": ExtendedKeyUsageOID.CODE_SIGNING,
}
_EMPTY: Mapping[str, Any] = {"email_protection_flag": False, "ext_key_usage": (), "ext_key_usage_oids": ()}


def settled(role: Role) -> Role:
    """The role with everything that its profile decides, so that reading it shows what it issues."""
    if not role.profile:
        return role
    profile = _profile(role.profile)
    flags = {flag: usage in profile.usages for flag, usage in _FLAGS.items()}
    decided: dict[str, Any] = {
        **flags,
        **_EMPTY,
        "key_usage": () if role.profile == "ca" else profile.key_usage,
    }
    if role.profile == "spiffe":
        decided |= {"require_cn": False, "use_csr_common_name": False}
    return msgspec.structs.replace(role, **decided)


def check_role(role: Role, args: Mapping[str, Any], given: frozenset[str]) -> None:
    """Refuse a settled role whose request says one thing and whose profile another.

    Raises:
        KmsError(INVALID): which field.
    """
    if role.profile:
        for name in (*_FLAGS, *_EMPTY, "key_usage"):
            wanted = args[name] if name in given else None
            asked = tuple(wanted) if isinstance(wanted, list) else wanted
            if asked is not None and asked != getattr(role, name):
                raise invalid(f"{name} is decided by the profile {role.profile}: leave it out")
    if role.profile == "ca" and role.no_store:
        raise invalid("certificates of CAs are always kept: no_store does not go with the profile ca")
    if not role.no_rev_avail:
        return
    if role.profile in {"ca", "ocsp"}:
        raise invalid(f"no_rev_avail is for end entities (RFC 9608), not for the profile {role.profile}")
    if max(role.ttl, role.max_ttl) > SHORT_LIVED_MAX:
        raise invalid(
            f"no_rev_avail is for certificates of at most {SHORT_LIVED_MAX // DAY} days: lower ttl and max_ttl"
        )


def check_names(role: Role, names: Names) -> None:
    """Raises KmsError(INVALID) for names that the role's profile does not go with."""
    if not role.profile:
        return
    profile = _profile(role.profile)
    if profile.host and not (names.dns or names.ips):
        raise invalid(f"the profile {role.profile} needs a DNS name or an IP address")
    if profile.subject and not (names.common_name or role.organization):
        raise invalid(f"the profile {role.profile} needs a subject: give common_name")
    if role.profile == "spiffe":
        _check_spiffe(names)


def check_proven(role: Role) -> None:
    """Raises KmsError(INVALID) for a profile that control over a host name is no reason for."""
    if role.profile not in {"", "tls-server", "tls-client", "mtls"}:
        raise invalid(f"the profile {role.profile} is not given for a host name that was proven")


def _check_spiffe(names: Names) -> None:
    """X509-SVID, sections 2 and 3. The syntax of the ID is checked with that of all URIs (pki.names)."""
    if len(names.uris) != 1 or not names.uris[0].startswith("spiffe://"):
        raise invalid("an X509-SVID has exactly one URI, its SPIFFE ID: give one in uri_sans")
    if "/" not in names.uris[0].removeprefix("spiffe://"):
        raise invalid("the SPIFFE ID of a workload has a path: spiffe://trust-domain/workload")
    if names.common_name:
        raise invalid("an X509-SVID has no common name: verifiers take it for a DNS name")


def usages(role: Role) -> tuple[x509.ObjectIdentifier, ...] | None:
    """The extended key usages of the role's profile; None for a role without one."""
    return _profile(role.profile).usages if role.profile else None


def extensions(role: Role, common: Extensions) -> Extensions:
    """What its profile adds, and of `common`, which is in all that the issuer signs, what may stay."""
    if role.profile != "ocsp" and not role.no_rev_avail:
        return common
    # Where to ask whether it was revoked is left out of both: the one says that nobody need ask, the other that nobody can.
    said = x509.OCSPNoCheck() if role.profile == "ocsp" else _NO_REV_AVAIL
    kept: list[tuple[x509.ExtensionType, bool]] = [(said, False)]
    for value, critical in common:
        if isinstance(value, x509.CRLDistributionPoints | x509.FreshestCRL):
            continue
        if not isinstance(value, x509.AuthorityInformationAccess):
            kept.append((value, critical))
            continue
        issuers = [access for access in value if access.access_method != AuthorityInformationAccessOID.OCSP]
        if issuers:
            kept.append((x509.AuthorityInformationAccess(issuers), critical))
    return tuple(kept)


def check_life(role: Role, now: int, not_after: int) -> None:
    """Raises KmsError(INVALID) for one that lives too long to do without revocation."""
    if role.no_rev_avail and not_after - now + 1 > SHORT_LIVED_MAX:
        raise invalid(f"certificates under no_rev_avail live at most {SHORT_LIVED_MAX // DAY} days")


def _profile(name: str) -> NamedProfile:
    found = PROFILES.get(name)
    if found is None:
        raise invalid(f'unknown profile "{name}": use one of {", ".join(PROFILES)}')
    return found
