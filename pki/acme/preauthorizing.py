"""Authorizations before there is an order (RFC 8555 7.4.1), where config/acme says `pre_authorization`.

A client proves a name first and orders certificates for it later: its order is ready at once. One that is valid is
used by one order, as every authorization is here, and belongs to its account and so to its directory. Wildcards
cannot be authorized in advance: the identifier of such an authorization is the name itself.
"""

from __future__ import annotations

import hashlib

import msgspec

from kms.ids import new_uuid
from kms.operation import Call, Change, Outcome, Result
from kms.tables import Reader, Row, Store, Transaction
from pki.acme import answers, identifiers, limits
from pki.acme.authorizations import check_pending, new_authorization, seen
from pki.acme.callers import Callers
from pki.acme.directories import Directory
from pki.acme.model import HOUR, Authorization, Identifier, Order, Status
from pki.acme.problems import malformed
from pki.acme.store import AUTHORIZATIONS

_LEFT = HOUR  # one that ends sooner would end before its order is finished


class PreAuthorizations:
    """One per process."""

    def __init__(self, store: Store, callers: Callers) -> None:
        self._store = store
        self._callers = callers

    def create(self, call: Call) -> Outcome:
        """NewAuthz: a new one, or (200) the one that waits for the same account and identifier already."""
        proven = self._callers.account(call)
        account, directory, now = proven.owner(), proven.directory, int(call.now)
        if not directory.config.pre_authorization:
            raise malformed("this directory takes no authorizations in advance: it shows no newAuthz", 404)
        (identifier,) = identifiers.parse([proven.object().get("identifier")])
        if identifier.wildcard:
            raise malformed("a wildcard cannot be authorized in advance (RFC 8555 7.4.1): order it")
        ready, authority, _ = self._callers.directories.ready(directory, directory.role)
        identifiers.judge((identifier,), ready.rules, authority)
        free_for = whose(account.id, identifier)
        made = msgspec.structs.replace(
            new_authorization(
                (call.mount.id, account.id, ""),
                new_uuid(),
                identifier,
                directory.config.challenge_types,
                now,
            ),
            free_for=free_for,
        )

        def write(tx: Transaction) -> Result:
            waiting = _waiting(tx, free_for, now)
            if waiting is not None:
                return _shown(directory, seen(waiting.value, now), 200)
            config = directory.config
            limits.spend(
                tx, call.mount.id, "authorization", account.id, limit=config.orders_per_account, now=now
            )
            limits.demand(tx, call.mount.id, "failure", account.id, limit=config.failed_validations, now=now)
            check_pending(tx, account.id, 1, config)
            tx.insert(AUTHORIZATIONS, f"{call.mount.id}/{made.id}", made)
            return _shown(directory, made, 201)

        return Change(write)


def take(tx: Transaction, order: Order, identifier: Identifier, now: int) -> Authorization | None:
    """The valid pre-authorization of the order's account for an identifier, used up by this order; None without one."""
    if identifier.wildcard:
        return None
    row = _waiting(tx, whose(order.account_id, identifier), now)
    if row is None or row.value.status != Status.VALID or row.value.expires_at < now + _LEFT:
        return None
    taken = msgspec.structs.replace(row.value, order_id=order.id, free_for="")
    tx.replace(AUTHORIZATIONS, row, taken)
    return taken


def _waiting(reader: Reader, free_for: str, now: int) -> Row[Authorization] | None:
    """One that is pending or valid. There is at most one: each is made in a transaction that looked for it."""
    rows = reader.find(AUTHORIZATIONS, {"free_for": free_for})
    alive = (row for row in rows if seen(row.value, now).status in {Status.PENDING, Status.VALID})
    return next(alive, None)


def whose(account_id: str, identifier: Identifier) -> str:
    """What `Authorization.free_for` says. Account ids are unique in all mounts."""
    text = f"{account_id}/{identifier.type}:{identifier.value}"
    return hashlib.sha256(text.encode()).hexdigest()


def _shown(directory: Directory, made: Authorization, status: int) -> Result:
    return answers.answer(
        answers.authorization(directory, made),
        status=status,
        headers=(("Location", directory.url(f"authorization/{made.id}")),),
        subject={"authorization": made.id, "identifier": made.identifier.value},
    )
