"""Orders (RFC 8555 7.4) and what their status follows from.

    pending --all authorizations valid--> ready --finalize--> processing --signed--> valid
       |--one is not, or time is up--> invalid       ^--the HSM was away--|--refused, or died--> invalid

Only `processing` and what comes after it are stored. Before that the status is computed from the authorizations
whenever somebody looks, so that there is one truth and nothing to keep in step.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kms.ids import new_uuid
from kms.operation import Call, Change, Outcome, Result
from kms.tables import Reader, Row, Store, Transaction
from pki.acme import answers, identifiers, limits
from pki.acme.authorizations import check_pending, new_authorization
from pki.acme.callers import Callers, Proven
from pki.acme.directories import Directory
from pki.acme.model import (
    DAY,
    MAX_IDENTIFIERS,
    ORDER_LIFETIME,
    Account,
    Authorization,
    Order,
    Problem,
    Status,
)
from pki.acme.preauthorizing import take
from pki.acme.problems import AcmeProblem, malformed, not_found
from pki.acme.replacing import check_replaces
from pki.acme.store import AUTHORIZATIONS, ORDERS
from pki.validity import parse_time


class Orders:
    """One per process."""

    def __init__(self, store: Store, callers: Callers) -> None:
        self._store = store
        self._callers = callers

    def create(self, call: Call) -> Outcome:
        """NewOrder."""
        proven = self._callers.account(call)
        account, wish = proven.owner(), proven.object()
        directory, now = proven.directory, int(call.now)
        wanted = identifiers.parse(wish.get("identifiers"))
        profile, role = self._role(directory, wish.get("profile", ""))
        ready, authority, _ = self._callers.directories.ready(directory, role)
        identifiers.judge(wanted, ready.rules, authority)
        order = Order(
            mount_id=call.mount.id,
            id=new_uuid(),
            account_id=account.id,
            directory=directory.prefix,
            role=role,
            issuer_ref=directory.issuer_ref,
            status=Status.PENDING,
            expires_at=now + ORDER_LIFETIME,
            delete_after=now + ORDER_LIFETIME + DAY,
            identifiers=wanted,
            authorizations=tuple(new_uuid() for _ in wanted),
            created_at=now,
            not_before=_moment(wish, "notBefore"),
            not_after=_moment(wish, "notAfter"),
            profile=profile,
            replaces=_text(wish, "replaces"),
        )
        new = [
            new_authorization(
                (order.mount_id, order.account_id, order.id), name, one, directory.config.challenge_types, now
            )
            for name, one in zip(order.authorizations, wanted, strict=True)
        ]

        def write(tx: Transaction) -> Result:
            # Those that were proven in advance are used, and no new ones made for them.
            ahead = directory.config.pre_authorization
            taken = [take(tx, order, one, now) if ahead else None for one in wanted]
            made = [one for one, instead in zip(new, taken, strict=True) if instead is None]
            self._limit(tx, call, directory, account, len(made))
            if order.replaces:
                check_replaces(tx, order)
            for authorization in made:
                tx.insert(AUTHORIZATIONS, f"{order.mount_id}/{authorization.id}", authorization)
            used = tuple((instead or one).id for one, instead in zip(new, taken, strict=True))
            stored = msgspec.structs.replace(order, authorizations=used)
            tx.insert(ORDERS, f"{order.mount_id}/{order.id}", stored)
            return answers.answer(
                answers.order(directory, current(tx, stored, now)),
                status=201,
                headers=location(directory, order),
                subject={"order": order.id, "role": role, "names": _listed(order)},
            )

        return Change(write)

    def read(self, call: Call) -> Result:
        """order/:id."""
        proven = self._callers.account(call)
        proven.nothing()
        order = self.own(self._store.reader(), call, proven).value
        return self.shown(proven.directory, order, int(call.now))

    def shown(self, directory: Directory, order: Order, now: int) -> Result:
        """An order as it stands."""
        seen = current(self._store.reader(), order, now)
        headers = location(directory, order)
        if seen.status == Status.PROCESSING:
            headers = (*headers, ("Retry-After", "1"))
        return answers.answer(answers.order(directory, seen), headers=headers)

    def own(self, reader: Reader, call: Call, proven: Proven) -> Row[Order]:
        """The order of the path, if it is the caller's. Raises AcmeProblem(malformed, 404)."""
        row = reader.get(ORDERS, f"{call.mount.id}/{call.args['order']}")
        if row is None or row.value.account_id != proven.owner().id:
            raise not_found()
        return row

    def _role(self, directory: Directory, profile: Any) -> tuple[str, str]:
        if not profile:
            return "", directory.role
        offered = directory.config.profiles if directory.default else {}
        if not isinstance(profile, str) or profile not in offered:
            raise AcmeProblem("invalidProfile", "the directory does not offer this profile (see its meta)")
        self._callers.directories.check_role(directory, offered[profile])
        return profile, offered[profile]

    def _limit(
        self, tx: Transaction, call: Call, directory: Directory, account: Account, wanted: int
    ) -> None:
        config, now = directory.config, int(call.now)
        limits.spend(tx, call.mount.id, "order", account.id, limit=config.orders_per_account, now=now)
        limits.demand(tx, call.mount.id, "failure", account.id, limit=config.failed_validations, now=now)
        check_pending(tx, account.id, wanted, config)


def current(reader: Reader, order: Order, now: int) -> Order:
    """The order with the status that follows from its authorizations."""
    if order.status != Status.PENDING:
        return order
    rows = [reader.get(AUTHORIZATIONS, f"{order.mount_id}/{name}") for name in order.authorizations]
    held = [row.value for row in rows if row is not None]
    failed = next((one for one in held if one.status in _DEAD), None)
    if failed is not None or len(held) != len(order.authorizations):
        error = _first_error(failed)
        return msgspec.structs.replace(order, status=Status.INVALID, error=error)
    if now >= order.expires_at or any(now >= one.expires_at for one in held):
        error = Problem(type="malformed", detail="the order expired before it was finished", status=403)
        return msgspec.structs.replace(order, status=Status.INVALID, error=error)
    if all(one.status == Status.VALID for one in held):
        return msgspec.structs.replace(order, status=Status.READY)
    return order


_DEAD = frozenset({Status.INVALID, Status.DEACTIVATED, Status.EXPIRED})


def _first_error(failed: Authorization | None) -> Problem | None:
    if failed is None:
        return Problem(type="malformed", detail="an authorization of this order is gone", status=403)
    errors = [one.error for one in failed.challenges if one.error is not None]
    gone = Problem(type="unauthorized", detail=f"an authorization is {failed.status}", status=403)
    return errors[0] if errors else gone


def location(directory: Directory, order: Order) -> answers.Headers:
    """The order's own URL; RFC 8555 7.4 shows it on every answer about it."""
    return (("Location", directory.url(f"order/{order.id}")),)


def _moment(wish: dict[str, Any], name: str) -> int:
    text = _text(wish, name)
    return parse_time(text) if text else 0


def _text(wish: dict[str, Any], name: str) -> str:
    value = wish.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise malformed(f"{name} is a string")
    return value


def _listed(order: Order) -> str:
    """Names for the audit record, bounded."""
    shown = " ".join(one.value for one in order.identifiers)
    return (
        shown
        if len(shown) <= 2000
        else f"{shown[:2000]}... ({len(order.identifiers)} of at most {MAX_IDENTIFIERS})"
    )
