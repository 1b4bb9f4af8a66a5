"""The set of issuers of a mount: names, chains, the default, and what the public sees of them."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from kms.errors import invalid
from kms.tables import Reader, T, Table, Transaction
from pki import shards
from pki.model import CaKey, Issuer, KeyState, MountConfig, PublicIssuer
from pki.store import (
    CRL_MARKS,
    CRL_SHARDS,
    DEFAULT,
    ISSUERS,
    KEYS,
    MOUNTS,
    PUBLIC_CRLS,
    PUBLIC_ISSUERS,
    RESPONDERS,
    issuers,
    mount_config,
    put,
)
from pki.unchanged import moment

NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,126}[A-Za-z0-9_-])?\Z")
_MAX_CHAIN = 10


def check_new_names(reader: Reader, mount_id: str, issuer_name: str, key_name: str) -> None:
    """Refuse names that are reserved, malformed or taken. Empty ones are fine.

    Raises:
        KmsError(INVALID): in the peer's words.
    """
    for what, name in (("issuer", issuer_name), ("key", key_name)):
        if not name:
            continue
        if name == DEFAULT:
            raise invalid(f"reserved keyword '{DEFAULT}' can not be used as {what} name")
        if not NAME.match(name):
            raise invalid(f"{what} name contained invalid characters")
    if issuer_name and any(issuer.name == issuer_name for issuer in issuers(reader, mount_id)):
        raise invalid("issuer name already in use")
    keys = (row.value for row in reader.scan(KEYS, f"{mount_id}/"))
    alive = {KeyState.PLANNED, KeyState.ACTIVE}
    if key_name and any(key.name == key_name and key.state in alive for key in keys):
        raise invalid("key name already in use")


def find_key(reader: Reader, mount_id: str, ref: str) -> CaKey | None:
    """A usable key by id or name."""
    for row in reader.scan(KEYS, f"{mount_id}/"):
        if (
            row.value.state == KeyState.ACTIVE
            and not row.value.responds
            and ref in {row.value.id, row.value.name}
        ):
            return row.value
    return None


def store_issuer(tx: Transaction, mount_id: str, issuer: Issuer) -> None:
    """Insert a new issuer or change a stored one."""
    put(tx, ISSUERS, f"{mount_id}/{issuer.id}", issuer)


def give_up_key(tx: Transaction, mount_id: str, key_id: str) -> None:
    """A responder's key signs no more; the background job destroys its object."""
    row = tx.get(KEYS, f"{mount_id}/{key_id}")
    if row is not None:
        tx.replace(KEYS, row, msgspec.structs.replace(row.value, state=KeyState.ABANDONED))


def remove_issuer(tx: Transaction, mount_id: str, issuer_id: str) -> bool:
    """Take an issuer and its documents away. Returns whether it was the default."""
    config = mount_config(tx, mount_id)
    was_default = config.default_issuer == issuer_id
    for key in (issuer_id, DEFAULT) if was_default else (issuer_id,):
        _remove(tx, PUBLIC_ISSUERS, f"{mount_id}/{key}")
    _remove(tx, PUBLIC_CRLS, f"{mount_id}/{issuer_id}")
    derived: tuple[Table[Any], ...] = (PUBLIC_CRLS, CRL_MARKS)
    for table in derived:
        for key in tx.keys(table, f"{mount_id}/{issuer_id}/"):
            _remove(tx, table, key)
    _remove(tx, CRL_SHARDS, f"{mount_id}/{issuer_id}")
    responder = tx.get(RESPONDERS, f"{mount_id}/{issuer_id}")
    if responder is not None:
        give_up_key(tx, mount_id, responder.value.key_id)
        tx.delete(RESPONDERS, responder)
    _remove(tx, ISSUERS, f"{mount_id}/{issuer_id}")
    if was_default:
        put(tx, MOUNTS, mount_id, msgspec.structs.replace(config, default_issuer=""))
    return was_default


def _remove(tx: Transaction, table: Table[T], key: str) -> None:
    row = tx.get(table, key)
    if row is not None:
        tx.delete(table, row)


def choose_default(tx: Transaction, mount_id: str, issuer: Issuer) -> None:
    """A first signing issuer, or with default_follows_latest_issuer any new one, becomes the default."""
    config = mount_config(tx, mount_id)
    if issuer.key_id and (not config.default_issuer or config.default_follows_latest_issuer):
        changed = msgspec.structs.replace(config, default_issuer=issuer.id, default_key=issuer.key_id)
        put(tx, MOUNTS, mount_id, changed)


def settle(tx: Transaction, mount_id: str, now: int) -> None:
    """Recompute all chains and the public documents after any change to the set of issuers."""
    known = issuers(tx, mount_id)
    parsed = {issuer.id: x509.load_der_x509_certificate(issuer.certificate) for issuer in known}
    by_id = {issuer.id: issuer for issuer in known}
    config = mount_config(tx, mount_id)
    for issuer in known:
        chain = tuple(id_ for id_ in issuer.manual_chain if id_ in by_id) or _chain(issuer.id, parsed)
        if chain != issuer.chain:
            put(tx, ISSUERS, f"{mount_id}/{issuer.id}", msgspec.structs.replace(issuer, chain=chain))
        public = PublicIssuer(
            id=issuer.id,
            name=issuer.name,
            certificate=issuer.certificate,
            chain=tuple(by_id[above].certificate for above in chain),
        )
        _publish(tx, f"{mount_id}/{issuer.id}", public, now)
        shards.note(tx, mount_id, issuer, config)
        if issuer.id == config.default_issuer:
            _publish(tx, f"{mount_id}/{DEFAULT}", public, now)


def _publish(tx: Transaction, key: str, public: PublicIssuer, now: int) -> None:
    row = tx.get(PUBLIC_ISSUERS, key)
    before = row.value.modified if row is not None else 0
    if row is None or msgspec.structs.replace(row.value, modified=0) != public:
        put(tx, PUBLIC_ISSUERS, key, msgspec.structs.replace(public, modified=moment(now, before)))


def _chain(start: str, parsed: dict[str, x509.Certificate]) -> tuple[str, ...]:
    """From an issuer upwards, as far as the mount knows."""
    chain = [start]
    while len(chain) < _MAX_CHAIN:
        current = parsed[chain[-1]]
        if current.issuer == current.subject:
            break
        above = next(
            (id_ for id_, other in parsed.items() if id_ not in chain and issued_by(current, other)), None
        )
        if above is None:
            break
        chain.append(above)
    return tuple(chain)


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer` signed it, by name and signature."""
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def settings(tx: Transaction, mount_id: str, config: MountConfig, now: int) -> None:
    """Store changed settings of a mount; the default issuer may be among them."""
    put(tx, MOUNTS, mount_id, config)
    settle(tx, mount_id, now)
