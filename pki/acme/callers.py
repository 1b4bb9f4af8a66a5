"""Who sends a request: the proof that stands where other doors have a token.

    (1) directory   offered at all?
    (2) shape       jws.parse
    (3) url         the header's is the one that this request came in at
    (4) key         by `kid`: a valid account of this directory; or by `jwk`, where the resource takes it
    (5) signature
    (6) nonce       spent, once
    (7) principal   acme-<account>, which the audit record names

A handler gets what is in `Proven` and nothing that was not signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kms.operation import WHOLE_BODY, Call, Principal
from kms.tables import Store
from pki.acme import jwk as keys
from pki.acme import jws
from pki.acme.directories import Directories, Directory
from pki.acme.jws import Jws, json_object
from pki.acme.model import Account, EabPolicy, Status
from pki.acme.nonces import Nonces
from pki.acme.problems import AcmeProblem, malformed
from pki.acme.store import ACCOUNTS
from pki.goodkey import LeafPublicKey


@dataclass(frozen=True, slots=True)
class Proven:
    """A request whose sender holds a key.

    Args:
        account: the account of that key, None where the request brought its key (`jwk`).
        payload: what was signed.
    """

    directory: Directory
    account: Account | None
    jwk: bytes
    key: LeafPublicKey
    payload: bytes

    def owner(self) -> Account:
        """The account. Raises AcmeProblem where the request brought a key instead."""
        if self.account is None:
            raise malformed("this resource takes requests of accounts: name yours in kid")
        return self.account

    def object(self) -> dict[str, Any]:
        """The payload as a JSON object."""
        return json_object(self.payload, "the payload")

    def nothing(self) -> None:
        """Raise unless it is a POST-as-GET (RFC 8555 6.3)."""
        if self.payload:
            raise malformed("this resource is read with an empty payload (POST-as-GET)")


class Callers:
    """One per process."""

    def __init__(self, store: Store, directories: Directories, nonces: Nonces) -> None:
        self._store = store
        self.directories = directories
        self._nonces = nonces

    def account(self, call: Call) -> Proven:
        """A request signed by a valid account. Raises AcmeProblem."""
        return self._prove(call, by_key=False, by_account=True)

    def key(self, call: Call) -> Proven:
        """A request that brings its key: a new account."""
        return self._prove(call, by_key=True, by_account=False)

    def either(self, call: Call) -> Proven:
        """A request of an account, or of another key: a revocation."""
        return self._prove(call, by_key=True, by_account=True)

    def _prove(self, call: Call, *, by_key: bool, by_account: bool) -> Proven:
        directory = self.directories.of(call)  # (1)
        request = jws.parse(call.args[WHOLE_BODY])  # (2)
        if request.url != self.url(call, directory):  # (3)
            raise AcmeProblem("unauthorized", "the url in the protected header is not that of this request")
        account = self._named(directory, request, by_key=by_key, by_account=by_account)  # (4)
        jwk = account.jwk if account is not None else request.jwk
        if jwk is None:
            raise malformed("the request has no key")
        key = keys.load(jwk)
        payload = request.verify(key)  # (5)
        self._nonces.spend(call.mount.id, request.nonce, call.now)  # (6)
        if account is not None:
            call.principal = principal(account)  # (7)
        return Proven(directory, account, jwk, key, payload)

    def url(self, call: Call, directory: Directory) -> str:
        """The external URL of a request."""
        return f"{directory.base}/{call.path.removeprefix(call.mount.path)}"

    def _named(self, directory: Directory, request: Jws, *, by_key: bool, by_account: bool) -> Account | None:
        if request.jwk is not None:
            if not by_key:
                raise malformed("this resource takes requests of accounts: name yours in kid, not in jwk")
            return None
        if not by_account:
            raise malformed("this resource takes a key in jwk, not an account in kid")
        name = directory.below(request.kid, "account")
        row = self._store.reader().get(ACCOUNTS, f"{directory.mount.id}/{name}") if name else None
        # An account of another directory of the mount is no account here: roles differ.
        if row is None or row.value.directory != directory.prefix:
            raise AcmeProblem("accountDoesNotExist", "kid names no account of this directory")
        account = row.value
        if account.status != Status.VALID:
            raise AcmeProblem("unauthorized", f"the account is {account.status}")
        if directory.config.eab_policy == EabPolicy.ALWAYS and not account.eab_id:
            raise AcmeProblem(
                "externalAccountRequired", "this directory now demands accounts with an external binding"
            )
        return account


def principal(account: Account) -> Principal:
    """What the record says of who asked."""
    return Principal(accessor=account.id, display_name=f"acme-{account.id}", entity_id=account.eab_id)
