"""Fetching a certificate (RFC 8555 7.4.2) and revoking one (7.6)."""

from __future__ import annotations

import dataclasses

from cryptography import x509

from kms.errors import ErrorKind, KmsError
from kms.operation import Call, Outcome, Result
from kms.tables import Reader, Store
from pki import goodkey
from pki.acme.callers import Callers, Proven
from pki.acme.jwk import unbase64url
from pki.acme.model import Account, Identifier, Order, Status
from pki.acme.orders import Orders
from pki.acme.problems import AcmeProblem, malformed, not_found
from pki.acme.store import AUTHORIZATIONS, ORDERS
from pki.authority import pem
from pki.model import Certificate, Issuer, serial_hex
from pki.revocation import RevocationDesk
from pki.store import CERTIFICATES, issuers

PEM_CHAIN = "application/pem-certificate-chain"
_REASONS = {
    0: "",
    1: "keyCompromise",
    3: "affiliationChanged",
    4: "superseded",
    5: "cessationOfOperation",
    9: "privilegeWithdrawn",
}
"""RFC 5280 5.3.1; certificateHold, removeFromCRL and the CA's own reasons are not a client's to give."""


class Certificates:
    """One per process."""

    def __init__(
        self,
        store: Store,
        callers: Callers,
        orders: Orders,
        desk: RevocationDesk,
    ) -> None:
        self._store = store
        self._callers = callers
        self._orders = orders
        self._desk = desk

    def read(self, call: Call) -> Result:
        """order/:id/cert, and its alternates order/:id/cert/:chain."""
        proven = self._callers.account(call)
        proven.nothing()
        reader = self._store.reader()
        order = self._orders.own(reader, call, proven).value
        if order.status != Status.VALID:
            raise AcmeProblem("orderNotReady", "the order has no certificate")
        row = reader.get(CERTIFICATES, f"{call.mount.id}/{order.serial}")
        if row is None or not row.value.certificate:
            raise not_found()
        chains = _chains(self._store.reader(), row.value)
        chosen = str(call.args.get("chain") or "0")
        if not chosen.isdecimal() or len(chosen) > 3 or int(chosen) >= len(chains):
            raise not_found()
        own = proven.directory.url(f"order/{order.id}/cert")
        links = [
            own if number == 0 else f"{own}/{number}"
            for number in range(len(chains))
            if number != int(chosen)
        ]
        text = "".join(pem(der) + "\n" for der in (row.value.certificate, *chains[int(chosen)]))
        headers = tuple(("Link", f'<{link}>;rel="alternate"') for link in links)
        return Result(raw=(text.encode("ascii"), PEM_CHAIN), headers=headers, subject={"order": order.id})

    def revoke(self, call: Call) -> Outcome:
        """revokeCert: by the account that ordered it or controls all its names, or by its own key."""
        proven = self._callers.either(call)
        wish = proven.object()
        given = wish.get("certificate")
        if not isinstance(given, str):
            raise malformed("a revocation has a certificate, and perhaps a reason")
        reason = wish.get("reason", 0)
        if isinstance(reason, bool) or not isinstance(reason, int) or reason not in _REASONS:
            raise AcmeProblem("badRevocationReason", f"reasons that a client can give: {sorted(_REASONS)}")
        brought = unbase64url(given, "the certificate")
        stored = self._stored(call, brought)
        if not self._may_revoke(proven, stored, int(call.now)):
            raise AcmeProblem(
                "unauthorized", "neither the account nor the key has a right over the certificate"
            )
        if stored.revoked_at:
            raise AcmeProblem("alreadyRevoked", "the certificate is revoked already")
        args = {"serial_number": stored.serial, "certificate": "", "reason": _REASONS[reason]}
        return self._desk.revoke(dataclasses.replace(call, args=args))

    def _stored(self, call: Call, brought: bytes) -> Certificate:
        try:
            serial = serial_hex(x509.load_der_x509_certificate(brought).serial_number)
        except ValueError:
            raise malformed("the certificate cannot be read") from None
        row = self._store.reader().get(CERTIFICATES, f"{call.mount.id}/{serial}")
        if row is None or row.value.certificate != brought:
            raise malformed("this mount did not issue the certificate", 404)
        return row.value

    def _may_revoke(self, proven: Proven, certificate: Certificate, now: int) -> bool:
        parsed = x509.load_der_x509_certificate(certificate.certificate)
        if proven.account is None:
            return goodkey.spki_hash(goodkey.spki_der(parsed.public_key())) == goodkey.spki_hash(
                goodkey.spki_der(proven.key)
            )
        reader, account = self._store.reader(), proven.account
        where = {"mount_id": certificate.mount_id, "serial": certificate.serial}
        orders = [row.value for row in reader.find(ORDERS, where)]
        if any(order.account_id == account.id for order in orders):
            return True
        return _controls(reader, account, orders, now)


def _controls(reader: Reader, account: Account, orders: list[Order], now: int) -> bool:
    """Whether the account holds a valid authorization for each name (RFC 8555 7.6)."""
    named = {one for order in orders for one in order.identifiers}
    rows = reader.find(AUTHORIZATIONS, {"account_id": account.id, "status": Status.VALID})
    held = {
        Identifier(one.identifier.type, f"*.{one.identifier.value}" if one.wildcard else one.identifier.value)
        for one in (row.value for row in rows)
        if now < one.expires_at
    }
    return bool(named) and named <= held


def _chains(reader: Reader, certificate: Certificate) -> list[list[bytes]]:
    """What can stand above a certificate: its issuer's chain, then those of other certificates of that CA key."""
    known = {issuer.id: issuer for issuer in issuers(reader, certificate.mount_id)}
    signer = known.get(certificate.issuer_id)
    if signer is None:
        raise KmsError(ErrorKind.NOT_FOUND, "the issuer of the certificate was removed")
    same = [signer, *(one for one in known.values() if one.id != signer.id and _equivalent(one, signer))]
    return [_above(one, known) for one in same]


def _equivalent(one: Issuer, other: Issuer) -> bool:
    first, second = (x509.load_der_x509_certificate(each.certificate) for each in (one, other))
    return first.subject == second.subject and goodkey.spki_der(first.public_key()) == goodkey.spki_der(
        second.public_key()
    )


def _above(issuer: Issuer, known: dict[str, Issuer]) -> list[bytes]:
    """The issuer, then what is above it without the root, which relying parties have (RFC 8555 7.4.2)."""
    others = [known[name].certificate for name in issuer.chain[1:] if name in known]
    return [issuer.certificate, *(der for der in others if not _self_issued(der))]


def _self_issued(der: bytes) -> bool:
    certificate = x509.load_der_x509_certificate(der)
    return certificate.issuer == certificate.subject
