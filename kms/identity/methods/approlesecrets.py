"""Secret IDs of AppRoles: made, looked up, destroyed; by themselves or by their accessors."""

from __future__ import annotations

from typing import Any

import msgspec

from kms.clock import rfc3339
from kms.errors import invalid, not_found
from kms.identity.creation import MAX_META, MAX_META_TEXT
from kms.identity.lifetimes import MAX_TTL
from kms.identity.methods.approle import AppRoles, role_key
from kms.identity.methods.store import (
    APPROLES,
    SECRET_ACCESSORS,
    SECRET_IDS,
    AppRole,
    SecretAccessor,
    SecretId,
)
from kms.identity.model import NEVER
from kms.identity.networks import canonical_networks, within
from kms.ids import new_uuid
from kms.operation import Call, Change, Result
from kms.tables import Reader, Row, Transaction

MAX_SECRET = 4096
_metadata = msgspec.json.Decoder(dict[str, str]).decode
_STARTED = "Tidy operation successfully started. Expired secret IDs are deleted step by step."


class SecretIds:
    """Handlers over the secret IDs of a mount's roles."""

    def __init__(self, roles: AppRoles) -> None:
        self._roles = roles

    def create(self, call: Call) -> Change:
        """A secret ID of the server's choice; it is in the answer and nowhere else."""
        return self._create(call, new_uuid())

    def create_custom(self, call: Call) -> Change:
        secret = str(call.args.get("secret_id") or "")
        if not 0 < len(secret) <= MAX_SECRET:
            raise invalid(f"missing secret_id: 1 to {MAX_SECRET} characters")
        return self._create(call, secret)

    def _create(self, call: Call, secret: str) -> Change:
        metadata = _read_metadata(str(call.args.get("metadata") or ""))

        def write(tx: Transaction) -> Result:
            role = self._role(tx, call).value
            if not role.bind_secret_id:
                raise invalid("bind_secret_id is not set on the role")
            kept = self._new(call, role, metadata)
            key = self._roles.secret_key(call.mount, role, secret)
            if tx.get(SECRET_IDS, key) is not None:
                raise invalid("this secret ID is registered already")
            tx.insert(SECRET_IDS, key, kept)
            tx.insert(SECRET_ACCESSORS, _accessor_key(call, role, kept.accessor), SecretAccessor(key))
            data = {
                "secret_id": secret,
                "secret_id_accessor": kept.accessor,
                "secret_id_num_uses": kept.num_uses,
                "secret_id_ttl": kept.ttl,
            }
            return Result(data=data, subject={"role": kept.role, "accessor": kept.accessor})

        return Change(write)

    def _new(self, call: Call, role: AppRole, metadata: dict[str, str]) -> SecretId:
        args, now = call.args, self._roles.now()
        cidrs = canonical_networks(args.get("cidr_list") or ())
        token_cidrs = canonical_networks(args.get("token_bound_cidrs") or ())
        if not within(cidrs, role.secret_id_bound_cidrs):
            raise invalid("cidr_list goes beyond the role's secret_id_bound_cidrs")
        if not within(token_cidrs, role.token_bound_cidrs):
            raise invalid("token_bound_cidrs goes beyond the role's token_bound_cidrs")
        uses = _bounded(args.get("num_uses"), role.secret_id_num_uses, "num_uses", "secret_id_num_uses")
        # None lives longer than what the mount lets live; without an end of its own it has none, as on the peer.
        ttl = min(
            _bounded(args.get("ttl"), role.secret_id_ttl, "ttl", "secret_id_ttl"),
            call.mount.max_lease_ttl or MAX_TTL,
        )
        return SecretId(
            role=str(args["role_name"]).lower(),
            accessor=new_uuid(),
            created=now,
            expires_at=now + ttl if ttl else NEVER,
            updated=now,
            ttl=ttl,
            num_uses=uses,
            cidr_list=cidrs,
            token_bound_cidrs=token_cidrs,
            metadata=metadata,
        )

    def listing(self, call: Call) -> Result:
        """The accessors of all secret IDs of a role."""
        reader = self._roles.store.reader()
        prefix = f"{call.mount.id}/{self._role(reader, call).value.uid}/"
        keys = [key.removeprefix(prefix) for key in reader.keys(SECRET_ACCESSORS, prefix)]
        if not keys:
            raise not_found()
        return Result(data={"keys": keys})

    def lookup(self, call: Call) -> Result:
        """What is known of a secret ID; nothing (204) for one that is not there."""
        reader = self._roles.store.reader()
        key = self._key_of(reader, call)
        row = reader.get(SECRET_IDS, key) if key else None
        return Result(data=_shown(row.value) if row is not None else None)

    def lookup_accessor(self, call: Call) -> Result:
        row = self._by_accessor(self._roles.store.reader(), call)
        return Result(data=_shown(row.value), subject={"accessor": row.value.accessor})

    def destroy(self, call: Call) -> Change:
        def write(tx: Transaction) -> Result:
            row = tx.get(SECRET_IDS, self._key_of(tx, call))
            if row is None:
                return Result()
            self._roles.drop_secret(tx, row)
            return Result(subject={"accessor": row.value.accessor})

        return Change(write)

    def destroy_accessor(self, call: Call) -> Change:
        def write(tx: Transaction) -> Result:
            row = self._by_accessor(tx, call)
            self._roles.drop_secret(tx, row)
            return Result(subject={"accessor": row.value.accessor})

        return Change(write)

    def tidy(self, _call: Call) -> Change:
        def write(tx: Transaction) -> Result:
            return Result(warnings=(_STARTED,), subject={"deleted": self._roles.reap(tx, 500)})

        return Change(write)

    def _role(self, reader: Reader, call: Call) -> Row[AppRole]:
        row = reader.get(APPROLES, role_key(call.mount, call.args["role_name"]))
        if row is None:
            raise not_found(f'role "{call.args["role_name"]}" does not exist')
        return row

    def _key_of(self, reader: Reader, call: Call) -> str:
        secret = str(call.args.get("secret_id") or "")
        if not secret:
            raise invalid("missing secret_id")
        return self._roles.secret_key(call.mount, self._role(reader, call).value, secret)

    def _by_accessor(self, reader: Reader, call: Call) -> Row[SecretId]:
        accessor = str(call.args.get("secret_id_accessor") or "")
        if not accessor:
            raise invalid("missing secret_id_accessor")
        held = None
        if "/" not in accessor:
            held = reader.get(SECRET_ACCESSORS, _accessor_key(call, self._role(reader, call).value, accessor))
        row = reader.get(SECRET_IDS, held.value.key) if held is not None else None
        if row is None:
            raise not_found(f'failed to find accessor entry for secret_id_accessor: "{accessor[:64]}"')
        return row


def _accessor_key(call: Call, role: AppRole, accessor: str) -> str:
    return f"{call.mount.id}/{role.uid}/{accessor}"


def _bounded(wanted: Any, most: int, name: str, of_role: str) -> int:
    """A wish within the role's bound, of which 0 is none; no wish takes the bound."""
    if wanted is None:
        return most
    value = int(wanted)
    if value < 0:
        raise invalid(f"{name} cannot be negative")
    if most and (value == 0 or value > most):
        raise invalid(f"{name} cannot be higher than the role's {of_role}")
    return value


def _read_metadata(text: str) -> dict[str, str]:
    if not text:
        return {}
    try:
        metadata = _metadata(text.encode("utf-8", "surrogatepass"))
    except msgspec.DecodeError:
        raise invalid(
            'metadata must be a JSON object of texts, in a string: "{\\"key\\": \\"value\\"}"'
        ) from None
    if len(metadata) > MAX_META or any(
        len(k) > MAX_META_TEXT or len(v) > MAX_META_TEXT for k, v in metadata.items()
    ):
        raise invalid(f"metadata holds at most {MAX_META} pairs of texts up to {MAX_META_TEXT} characters")
    return metadata


def _shown(secret: SecretId) -> dict[str, Any]:
    ends = secret.expires_at < NEVER
    return {
        "cidr_list": list(secret.cidr_list),
        "creation_time": rfc3339(secret.created),
        "expiration_time": rfc3339(secret.expires_at) if ends else "0001-01-01T00:00:00Z",
        "last_updated_time": rfc3339(secret.updated),
        "metadata": secret.metadata,
        "secret_id_accessor": secret.accessor,
        "secret_id_num_uses": secret.num_uses,
        "secret_id_ttl": secret.ttl,
        "token_bound_cidrs": list(secret.token_bound_cidrs),
    }
