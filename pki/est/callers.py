"""Who enrols: the proof that stands where other paths have a token (RFC 7030 3.2.3, 3.3.2).

    (1) HTTP authentication, if sent: a token in X-Vault-Token, as Bearer or as the password of Basic; or name and
        password, of a device of this mount or of a user of an auth mount
    (2) else the certificate of the TLS handshake: one that this mount issued, in force, to be renewed under its role
    (3) policy, for tokens; the device's roles, for passwords

A certificate that came along is verified in either case, since re-enrolment needs it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509

from kms.errors import ErrorKind, KmsError
from kms.operation import Call, Principal
from kms.tables import Row, Store
from pki.est.model import EstUser
from pki.est.places import Place
from pki.est.store import USERS
from pki.model import Certificate
from pki.presented import in_force

UNKNOWN = "authentication is needed: a token or a password of this mount (HTTP Basic), or a client certificate of it"
_ACCESSOR = 24


class Authorize:
    """What policy and identity say, handed in by the composition root.

    Args:
        authenticate: (token, address it came from) -> Principal; raises KmsError(UNAUTHENTICATED).
        demand: raises KmsError(DENIED) unless the principal's policies allow the call.
        login: (accessor of an auth mount, name, password, the call that they came with) -> Principal; raises KmsError(UNAUTHENTICATED).
    """

    def __init__(
        self,
        authenticate: Callable[[str, str], Principal],
        demand: Callable[[Principal, Call], None],
        login: Callable[[str, str, str, Call], Principal],
    ) -> None:
        self.authenticate = authenticate
        self.demand = demand
        self.login = login


@dataclass(frozen=True)
class Caller:
    """Who it is.

    Args:
        certificate: the verified one that it presented, if any.
        only_certificate: there is no other proof, so it speaks for what stands in that and for nothing else.
    """

    certificate: x509.Certificate | None
    only_certificate: bool


@dataclass(frozen=True)
class Callers:
    """One per process."""

    store: Store
    authorize: Authorize

    def prove(self, call: Call, place: Place) -> Caller:
        """The caller of a request; `call.principal` is set for the record.

        Raises:
            KmsError(UNAUTHENTICATED): nothing was proven. KmsError(DENIED): it may not enrol here.
        """
        row = self._presented(call) if "cert" in place.config.authenticators else None
        found = self._http(call, place)  # (1)
        alone = found is None
        if found is None:  # (2)
            if row is None:
                raise KmsError(ErrorKind.UNAUTHENTICATED, UNKNOWN)
            found = Principal(
                accessor=f"cert-{row.value.serial[:_ACCESSOR]}", display_name=f"est-cert-{row.value.serial}"
            )
            if row.value.role != place.role_name:
                raise KmsError(ErrorKind.DENIED, "this certificate was issued under another role")
        call.principal = found
        certificate = x509.load_der_x509_certificate(row.value.certificate) if row is not None else None
        return Caller(certificate, alone)

    def _http(self, call: Call, place: Place) -> Principal | None:
        user, password = _basic(call.basic)
        if user and "password" in place.config.authenticators:
            row = self.store.reader().get(USERS, f"{call.mount.id}/{user}") if "/" not in user else None
            if row is not None:
                return _device(user, password, row.value, place)
        credential = call.credential or password
        if credential and "token" in place.config.authenticators and _is_token(call, place):
            principal = self.authorize.authenticate(credential, call.peer)
        elif user and "userpass" in place.config.authenticators:
            accessor = place.config.userpass_accessor
            principal = self.authorize.login(accessor, user, password, call)
        else:
            return None
        call.capability = call.operation.capability
        self.authorize.demand(principal, call)  # (3)
        return principal

    def _presented(self, call: Call) -> Row[Certificate] | None:
        """The record of the certificate that the client holds the key of, if it is one of this mount, in force."""
        try:
            return in_force(self.store, call)
        except KmsError as error:
            if error.kind is not ErrorKind.INVALID:
                raise
            return None


def _is_token(call: Call, place: Place) -> bool:
    """Whether what was sent is a token: with users of an auth mount about, the name of Basic is "token" then."""
    names = _basic(call.basic)[0]
    return bool(call.credential) or "userpass" not in place.config.authenticators or names == "token"


def _device(name: str, password: str, user: EstUser, place: Place) -> Principal:
    if not hmac.compare_digest(hashlib.sha256(password.encode()).digest(), user.sha256):
        raise KmsError(ErrorKind.UNAUTHENTICATED, UNKNOWN)
    if "*" not in user.roles and place.role_name not in user.roles:
        raise KmsError(ErrorKind.DENIED, f"this device may not enrol under role {place.role_name}")
    return Principal(accessor=f"est-{name}", display_name=f"est-{name}")


def _basic(text: str) -> tuple[str, str]:
    """Name and password of an HTTP Basic credential (RFC 7617); empty when there is none."""
    if not text:
        return "", ""
    try:
        name, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except ValueError:  # of base64, or of what is in it
        raise KmsError(ErrorKind.UNAUTHENTICATED, UNKNOWN) from None
    if not colon:
        raise KmsError(ErrorKind.UNAUTHENTICATED, UNKNOWN)
    return name, password
