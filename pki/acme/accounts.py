"""Accounts (RFC 8555 7.3): made, updated, deactivated, given another key.

    valid --deactivated by its owner--> deactivated

A key belongs to at most one account of a directory: the row of the key is inserted, so of two requests that bring the
same one, one makes the account and the other finds it.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from kms.errors import ErrorKind, KmsError
from kms.ids import new_uuid
from kms.operation import Call, Change, Outcome, Result
from kms.tables import Row, Store, Transaction
from pki import goodkey
from pki.acme import answers, bindings, jws, limits
from pki.acme import jwk as keys
from pki.acme.callers import Callers, Proven, principal
from pki.acme.directories import Directory
from pki.acme.jws import json_object
from pki.acme.model import Account, AccountKey, EabPolicy, Order, Status
from pki.acme.problems import AcmeProblem, malformed, not_found
from pki.acme.store import ACCOUNT_KEYS, ACCOUNTS, ORDERS, key_row
from pki.goodkey import Blocklist

MAX_CONTACTS = 10
_MAILTO = re.compile(r"mailto:[^\s?,@\x00-\x1f\x7f]{1,64}@[A-Za-z0-9.-]{1,253}\Z")
_LISTED = 1000


class Accounts:
    """One per process."""

    def __init__(self, store: Store, callers: Callers, blocklist: Blocklist) -> None:
        self._store = store
        self._callers = callers
        self._blocklist = blocklist

    # -- new-account ----------------------------------------------------------------------------------

    def create(self, call: Call) -> Outcome:
        """newAccount: the account of this key, made if there is none (7.3, 7.3.1)."""
        proven = self._callers.key(call)
        directory, wish = proven.directory, proven.object()
        only_existing = wish.get("onlyReturnExisting", False)
        existing = self._by_key(directory, proven.jwk)
        if existing is not None:
            call.principal = principal(existing)
            return _found(directory, existing)
        if only_existing is True:
            raise AcmeProblem("accountDoesNotExist", "no account has this key")
        self._check_key(proven)
        account = self._wanted(call, proven, wish)
        address, now = call.peer, int(call.now)

        def write(tx: Transaction) -> Result:
            limit = directory.config.accounts_per_address
            limits.spend(tx, call.mount.id, "account", address, limit=limit, now=now)
            made = self._bound(tx, call, proven, wish, account)
            row = key_row(call.mount.id, directory.prefix, keys.thumbprint(proven.jwk))
            try:
                tx.insert(ACCOUNT_KEYS, row, AccountKey(made.id))
            except KmsError as error:
                if error.kind is ErrorKind.CONFLICT:
                    raise malformed(
                        "an account with this key was made at this moment; send again", 409
                    ) from None
                raise
            tx.insert(ACCOUNTS, f"{call.mount.id}/{made.id}", made)
            call.principal = principal(made)
            return answers.answer(
                answers.account(directory, made),
                status=201,
                headers=_location(directory, made),
                subject={"account": made.id, "key": keys.thumbprint(proven.jwk), "eab": made.eab_id},
            )

        return Change(write)

    def _wanted(self, call: Call, proven: Proven, wish: dict[str, Any]) -> Account:
        agreed = wish.get("termsOfServiceAgreed", False) is True
        terms = proven.directory.config.terms_of_service
        if terms and not agreed:
            raise AcmeProblem("userActionRequired", f"agree to the terms of service: {terms}")
        return Account(
            mount_id=call.mount.id,
            id=new_uuid(),
            directory=proven.directory.prefix,
            status=Status.VALID,
            jwk=proven.jwk,
            contact=_contacts(wish.get("contact") or []),
            terms_agreed=agreed,
            created_at=int(call.now),
        )

    def _bound(
        self, tx: Transaction, call: Call, proven: Proven, wish: dict[str, Any], account: Account
    ) -> Account:
        directory = proven.directory
        if wish.get("externalAccountBinding") is None:
            if directory.config.eab_policy != EabPolicy.NOT_REQUIRED:
                raise AcmeProblem(
                    "externalAccountRequired",
                    "a new account needs an external account binding (acme/new-eab)",
                )
            return account
        bound = bindings.use(
            tx,
            call.mount.id,
            directory.prefix,
            directory.url("new-account"),
            wish["externalAccountBinding"],
            proven.jwk,
            now=int(call.now),
        )
        return msgspec.structs.replace(account, eab_id=bound)

    # -- account/:id ----------------------------------------------------------------------------------

    def update(self, call: Call) -> Outcome:
        """Contacts, or the end of the account (7.3.2, 7.3.6); POST-as-GET reads it."""
        proven = self._callers.account(call)
        account, directory = _own(call, proven), proven.directory
        if not proven.payload:
            return answers.answer(answers.account(directory, account))
        wish = proven.object()
        changes: dict[str, Any] = {}
        if wish.get("status", Status.VALID) != account.status:
            if wish["status"] != Status.DEACTIVATED:
                raise malformed('the only status that a client can ask for is "deactivated"')
            changes["status"] = Status.DEACTIVATED
        if wish.get("contact") is not None:
            changes["contact"] = _contacts(wish["contact"])
        if not changes:
            return answers.answer(answers.account(directory, account))

        def write(tx: Transaction) -> Result:
            row = _row(tx, account)
            changed = msgspec.structs.replace(row.value, **changes)
            tx.replace(ACCOUNTS, row, changed)
            subject: dict[str, str | int] = {"account": account.id, "status": changed.status}
            return answers.answer(answers.account(directory, changed), subject=subject)

        return Change(write)

    def orders(self, call: Call) -> Result:
        """The list of an account's orders (7.1.2.1)."""
        proven = self._callers.account(call)
        account = _own(call, proven)
        proven.nothing()
        rows = self._store.reader().find(ORDERS, {"account_id": account.id}, limit=_LISTED)
        return answers.answer({"orders": [_order_url(proven.directory, row.value) for row in rows]})

    # -- key-change -----------------------------------------------------------------------------------

    def change_key(self, call: Call) -> Outcome:
        """KeyChange (7.3.5): signed by the old key, and inside by the new one."""
        proven = self._callers.account(call)
        account, directory = proven.owner(), proven.directory
        inner = jws.parse(proven.object(), inner=True)
        if inner.url != self._callers.url(call, directory):
            raise malformed("the inner request has another url than the outer one")
        if inner.jwk is None:
            raise malformed("the inner request brings the new key in jwk")
        new = inner.jwk
        wish = json_object(inner.verify(keys.load(new)), "the inner payload")
        if wish.get("account") != directory.url(f"account/{account.id}"):
            raise malformed("the inner payload has the account that signs the outer request, and oldKey")
        if keys.canonical(wish.get("oldKey")) != account.jwk:
            raise malformed("oldKey is not the key of the account")
        self._check_key(Proven(directory, None, new, keys.load(new), b""))

        def write(tx: Transaction) -> Result:
            taken = tx.get(ACCOUNT_KEYS, key_row(call.mount.id, directory.prefix, keys.thumbprint(new)))
            if taken is not None:
                headers = (("Location", directory.url(f"account/{taken.value.account_id}")),)
                raise AcmeProblem("malformed", "another account has this key", status=409, headers=headers)
            row = _row(tx, account)
            if row.value.jwk != account.jwk:
                raise malformed("the key of the account was changed at this moment", 409)
            old = tx.get(ACCOUNT_KEYS, key_row(call.mount.id, directory.prefix, keys.thumbprint(account.jwk)))
            if old is not None:
                tx.delete(ACCOUNT_KEYS, old)
            key = key_row(call.mount.id, directory.prefix, keys.thumbprint(new))
            tx.insert(ACCOUNT_KEYS, key, AccountKey(account.id))
            changed = msgspec.structs.replace(row.value, jwk=new)
            tx.replace(ACCOUNTS, row, changed)
            subject: dict[str, str | int] = {"account": account.id, "key": keys.thumbprint(new)}
            return answers.answer(answers.account(directory, changed), subject=subject)

        return Change(write)

    # -- looking up -----------------------------------------------------------------------------------

    def _by_key(self, directory: Directory, jwk: bytes) -> Account | None:
        reader, mount_id = self._store.reader(), directory.mount.id
        key = reader.get(ACCOUNT_KEYS, key_row(mount_id, directory.prefix, keys.thumbprint(jwk)))
        row = reader.get(ACCOUNTS, f"{mount_id}/{key.value.account_id}") if key is not None else None
        return row.value if row is not None else None

    def _check_key(self, proven: Proven) -> None:
        try:
            goodkey.check(proven.key, self._blocklist, lambda _: False)
        except KmsError as error:
            raise AcmeProblem("badPublicKey", error.detail) from None


def _found(directory: Directory, account: Account) -> Result:
    if account.status != Status.VALID:
        raise AcmeProblem("unauthorized", f"the account of this key is {account.status}")
    return answers.answer(answers.account(directory, account), headers=_location(directory, account))


def _own(call: Call, proven: Proven) -> Account:
    account = proven.owner()
    if call.args["account"] != account.id:
        raise not_found()
    return account


def _row(tx: Transaction, account: Account) -> Row[Account]:
    """The account as it is now: a request that was slower than a deactivation changes nothing."""
    row = tx.get(ACCOUNTS, f"{account.mount_id}/{account.id}")
    if row is None or row.value.status != Status.VALID:
        raise AcmeProblem("unauthorized", "the account is no longer valid")
    return row


def _location(directory: Directory, account: Account) -> tuple[tuple[str, str], ...]:
    return (("Location", directory.url(f"account/{account.id}")),)


def _order_url(directory: Directory, order: Order) -> str:
    return directory.url(f"order/{order.id}")


def _contacts(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise AcmeProblem("invalidContact", "contact is a list of URLs")
    if len(given) > MAX_CONTACTS:
        raise AcmeProblem("invalidContact", f"an account has at most {MAX_CONTACTS} contacts")
    for one in given:
        if not one.startswith("mailto:"):
            raise AcmeProblem("unsupportedContact", "only mailto: contacts are supported")
        if not _MAILTO.match(one):
            raise AcmeProblem("invalidContact", "a mailto: contact names one address and nothing else")
    return tuple(given)
