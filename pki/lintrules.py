"""Rules of RFC 5280 and RFC 9608 that pkilint does not have. Every copy that is linted is held against them.

check_rules(copy, ca)       raises KmsError(INVALID) naming the rule
"""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from kms.errors import KmsError, invalid

NO_REV_AVAIL = x509.ObjectIdentifier("2.5.29.56")


def check_rules(copy: x509.Certificate, *, ca: bool) -> None:
    """Judge a parsed certificate. Raises KmsError(INVALID)."""
    extensions = {each.oid: each for each in copy.extensions}
    if ca and not list(copy.subject):
        raise _broken("a CA must have a subject (RFC 5280 4.1.2.6)")
    for kind in (x509.PolicyConstraints, x509.InhibitAnyPolicy):
        found = extensions.get(kind.oid)
        if found is not None and not found.critical:
            raise _broken(f"{kind.__name__} must be critical (RFC 5280 4.2.1)")
    if x509.PrecertPoison.oid in extensions:
        raise _broken("a precertificate is not for this CA to sign (RFC 6962 3.1)")
    if NO_REV_AVAIL in extensions:
        _check_no_rev_avail(extensions, ca=ca)


def _check_no_rev_avail(
    extensions: dict[x509.ObjectIdentifier, x509.Extension[x509.ExtensionType]], *, ca: bool
) -> None:
    """RFC 9608 4: who says that nobody can ask must not say where to ask."""
    if ca:
        raise _broken("noRevAvail is not for CAs (RFC 9608 4)")
    if extensions[NO_REV_AVAIL].critical:
        raise _broken("noRevAvail must not be critical (RFC 9608 2)")
    if x509.CRLDistributionPoints.oid in extensions or x509.FreshestCRL.oid in extensions:
        raise _broken("noRevAvail and a place of CRLs exclude each other (RFC 9608 4)")
    access = extensions.get(x509.AuthorityInformationAccess.oid)
    if access is not None and isinstance(access.value, x509.AuthorityInformationAccess):
        methods = {each.access_method for each in access.value}
        if AuthorityInformationAccessOID.OCSP in methods:
            raise _broken("noRevAvail and an OCSP responder exclude each other (RFC 9608 4)")


def _broken(rule: str) -> KmsError:
    return invalid(f"this certificate would break X.509 rules: {rule}")
