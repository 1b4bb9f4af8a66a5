"""Finalizing an order (RFC 8555 7.4): the names of the order, the key of the CSR, one certificate.

begin     order ready -> processing, in the commit of the intent: of two requests one goes on
perform   the CA signs (pki.issuance: role, lint, name constraints, validity as for any leaf)
conclude  certificate stored and order valid, in one commit
abandon   the HSM was away: ready again; refused: invalid
resolve   the process died in between: order invalid, the serial unknown and revoked (pki.issuance)
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography import x509
from cryptography.x509.oid import NameOID

from kms.errors import ErrorKind, KmsError
from kms.operation import Call, External, Result
from kms.tables import Store, Transaction
from pki import goodkey
from pki.acme import answers, identifiers, replacing
from pki.acme.callers import Callers, Proven
from pki.acme.directories import Directory
from pki.acme.jwk import unbase64url
from pki.acme.model import DAY, Identifier, Order, Problem, Status
from pki.acme.orders import Orders, current, location
from pki.acme.problems import AcmeProblem, as_problem, kept, malformed
from pki.acme.store import ORDERS
from pki.authority import pem
from pki.issuance import Issuance, resolve_issue
from pki.model import serial_hex
from pki.names import MAX_CN, BadName, check_ip
from pki.profiles import named
from pki.requests import parse_csr
from pki.validity import iso

_TRANSIENT = frozenset(
    {ErrorKind.HSM_UNAVAILABLE, ErrorKind.STORAGE_UNAVAILABLE, ErrorKind.AUDIT_UNAVAILABLE, ErrorKind.SEALED}
)


class Finalizing:
    """One per process."""

    def __init__(self, store: Store, callers: Callers, orders: Orders, issuance: Issuance) -> None:
        self._store = store
        self._callers = callers
        self._orders = orders
        self._issuance = issuance

    def finalize(self, call: Call) -> External[bytes]:
        """order/:id/finalize."""
        proven = self._callers.account(call)
        wish = proven.object()
        order = self._orders.own(self._store.reader(), call, proven).value
        _demand_ready(current(self._store.reader(), order, int(call.now)))
        if not isinstance(wish.get("csr"), str):
            raise malformed("an order is finalized with a csr")
        csr = _read(unbase64url(wish["csr"], "the csr"))
        common_name = _match(csr, order)
        _demand_other_key(csr, proven)
        directory = proven.directory
        self._callers.directories.check_role(directory, order.role)
        ready, authority, row = self._callers.directories.ready(directory, order.role)
        identifiers.judge(order.identifiers, ready.rules, authority)
        names = identifiers.names_of(order.identifiers, common_name)
        inner_call = dataclasses.replace(call, args=_arguments(order))
        try:
            named.check_proven(ready.role)
            signing = self._issuance.sign_named(inner_call, row, authority.issuer.id, csr, names)
        except KmsError as error:
            if error.kind is ErrorKind.INVALID:
                raise AcmeProblem("badCSR", error.detail) from None
            raise
        return Act(directory, order, signing, int(call.now)).external()


@dataclass
class Act:
    """The steps of one order around its signature."""

    directory: Directory
    order: Order
    signing: External[bytes]
    now: int

    def external(self) -> External[bytes]:
        """For the pipeline."""
        signing = self.signing
        intent = {**signing.intent, "order": self.order.id}
        return External(intent, self.begin, signing.perform, self.conclude, self.abandon)

    def begin(self, tx: Transaction) -> None:
        if self.signing.begin is not None:
            self.signing.begin(tx)
        row = tx.get(ORDERS, self._key())
        if row is None:
            raise malformed("the order is gone", 404)
        _demand_ready(current(tx, row.value, self.now))
        replacing.take(tx, row.value)
        tx.replace(ORDERS, row, msgspec.structs.replace(row.value, status=Status.PROCESSING))

    def conclude(self, tx: Transaction, der: bytes) -> Result:
        result = self.signing.conclude(tx, der)
        certificate = x509.load_der_x509_certificate(der)
        until = int(certificate.not_valid_after_utc.timestamp()) + DAY
        row = tx.get(ORDERS, self._key())
        if row is None or row.value.status != Status.PROCESSING:
            raise KmsError(ErrorKind.CONFLICT, "the order was closed by somebody else")
        done = msgspec.structs.replace(
            row.value,
            status=Status.VALID,
            serial=serial_hex(certificate.serial_number),
            delete_after=max(until, row.value.delete_after),
        )
        tx.replace(ORDERS, row, done)
        replacing.keep(tx, done, until)
        return answers.answer(
            answers.order(self.directory, done),
            headers=location(self.directory, done),
            subject={**result.subject, "order": done.id},
        )

    def abandon(self, tx: Transaction, error: KmsError) -> None:
        self.signing.abandon(tx, error)
        row = tx.get(ORDERS, self._key())
        if row is None or row.value.status != Status.PROCESSING:
            return
        replacing.give_back(tx, row.value)
        if error.kind in _TRANSIENT:
            again = msgspec.structs.replace(
                row.value, status=Status.PENDING
            )  # its authorizations make it ready
        else:
            problem = kept(as_problem(error))
            again = msgspec.structs.replace(row.value, status=Status.INVALID, error=problem)
        tx.replace(ORDERS, row, again)

    def _key(self) -> str:
        return f"{self.order.mount_id}/{self.order.id}"


def resolve_finalize(intent: Mapping[str, str | int], now: int) -> External[None]:
    """Close the intent of an order whose process died while its certificate was signed."""
    issue = resolve_issue(intent, now)

    def conclude(tx: Transaction, done: None) -> Result:
        result = issue.conclude(tx, done)
        row = tx.get(ORDERS, f"{intent['mount']}/{intent['order']}")
        if row is not None and row.value.status == Status.PROCESSING:
            replacing.give_back(tx, row.value)
            problem = Problem(type="serverInternal", detail="the server died while it signed", status=500)
            tx.replace(ORDERS, row, msgspec.structs.replace(row.value, status=Status.INVALID, error=problem))
        return result

    return External(intent, lambda _: None, lambda: None, conclude, lambda _tx, _error: None)


def _demand_ready(order: Order) -> None:
    if order.status != Status.READY:
        raise AcmeProblem("orderNotReady", f"the order is {order.status}, not ready")


def _read(der: bytes) -> x509.CertificateSigningRequest:
    try:
        return parse_csr(pem(der, "CERTIFICATE REQUEST"))
    except KmsError as error:
        raise AcmeProblem("badCSR", error.detail) from None


def _match(csr: x509.CertificateSigningRequest, order: Order) -> str:
    """The common name to use. Raises AcmeProblem(badCSR) unless the CSR names what the order does, and no more."""
    asked: set[Identifier] = set()
    try:
        alternatives = list(csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        alternatives = []
    for name in alternatives:
        if isinstance(name, x509.DNSName):
            asked.add(Identifier("dns", name.value.lower()))
        elif isinstance(name, x509.IPAddress):
            asked.add(Identifier("ip", str(name.value)))
        else:
            raise AcmeProblem("badCSR", "the CSR has a name that is neither a host name nor an address")
    common = [str(one.value) for one in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if len(common) > 1:
        raise AcmeProblem("badCSR", "the CSR has more than one common name")
    asked |= {_as_identifier(one) for one in common}
    if asked != set(order.identifiers):
        raise AcmeProblem("badCSR", "the names of the CSR are not those of the order")
    chosen = [one.lower() for one in common if _as_identifier(one).type == "dns"]
    return chosen[0] if chosen and len(chosen[0]) <= MAX_CN else ""


def _as_identifier(common_name: str) -> Identifier:
    try:
        return Identifier("ip", str(check_ip(common_name)))
    except BadName:
        return Identifier("dns", common_name.lower())


def _demand_other_key(csr: x509.CertificateSigningRequest, proven: Proven) -> None:
    wanted, own = goodkey.spki_der(csr.public_key()), goodkey.spki_der(proven.key)
    if hashlib.sha256(wanted).digest() == hashlib.sha256(own).digest():
        raise AcmeProblem(
            "badCSR", "the key of a certificate must not be the key of the account (RFC 8555 11.1)"
        )


def _arguments(order: Order) -> dict[str, Any]:
    return {
        "role": order.role,
        "not_before": iso(order.not_before) if order.not_before else "",
        "not_after": iso(order.not_after) if order.not_after else "",
    }
