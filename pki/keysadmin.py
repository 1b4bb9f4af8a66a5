"""CA keys of a mount as an administrator keeps them: made without a certificate, named, listed, removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from kms.errors import KmsError, invalid
from kms.operation import Call, Change, External, Result
from kms.tables import Store, Transaction
from pki.authority import Authorities, hexed_ski
from pki.cakeys import KeyForm, NewKey, existing_key, key_intent, planned
from pki.cakinds import KINDS
from pki.hsmkey import CaToken
from pki.issuers import check_new_names, find_key
from pki.leftovers import retire_key
from pki.listing import listed
from pki.model import CaKey
from pki.store import KEYS, active_keys, issuers, put

_UNNAMED = "Name successfully deleted, you will now need to reference this key by it's Id: {id}"


@dataclass(frozen=True)
class KeysAdmin:
    """One per process."""

    store: Store
    token: CaToken
    authorities: Authorities

    def internal(self, call: Call) -> External[bytes]:
        """A key in the HSM, for certificates to come."""
        return self._make(call, exported=False)

    def exported(self, call: Call) -> External[bytes]:
        """A key of protection software; its private half is in the answer."""
        return self._make(call, exported=True)

    def kms(self, call: Call) -> Result:
        """There are no external keys."""
        del call
        raise invalid(
            "there are no external keys here: use keys/generate/internal, which makes the key in the HSM"
        )

    def _make(self, call: Call, *, exported: bool) -> External[bytes]:
        if call.args["external_key_ref"]:
            raise invalid('cannot specify "external_key_ref" on non-kms typed key generation request')
        try:
            key, warnings = planned(call.args, int(call.now), software=exported)
        except KmsError as error:
            raise invalid(f"Validation for key_type, key_bits failed: {error.detail}") from None
        check_new_names(self.store.reader(), call.mount.id, "", key.name)
        new = NewKey(self.token, call.mount.id, key)

        def begin(tx: Transaction) -> None:
            check_new_names(tx, call.mount.id, "", key.name)
            new.plan(tx)

        def perform() -> bytes:
            try:
                return new.generate()[0]
            except KmsError:
                new.discard()
                raise

        def conclude(tx: Transaction, spki: bytes) -> Result:
            new.activate(tx, spki)
            data = key_data(key)
            KeyForm("pem", exported, as_pkcs8=False).add_private(data, new, "")
            data.pop("private_key_type", None)
            return Result(data=data, subject=key_intent(new), warnings=warnings)

        def abandon(tx: Transaction, error: KmsError) -> None:
            del error
            new.abandon(tx)

        return External(key_intent(new), begin, perform, conclude, abandon)

    def list(self, call: Call) -> Result:
        """Ids and names."""
        default = self.authorities.config(call.mount.id).default_key
        known = active_keys(self.store.reader(), call.mount.id)
        info = {key.id: {"is_default": key.id == default, "key_name": key.name} for key in known}
        return listed(list(info), call.args, key_info=info)

    def read(self, call: Call) -> Result:
        """One key: its type, where it is, and the identifier that its certificates carry."""
        key = existing_key(self.store.reader(), call.mount.id, str(call.args["key_ref"]))
        more = {"protection": str(key.protection), "subject_key_id": hexed_ski(key.spki)}
        return Result(data={**key_data(key), **more})

    def write(self, call: Call) -> Change:
        """Its name."""
        key = existing_key(self.store.reader(), call.mount.id, str(call.args["key_ref"]))
        name = str(call.args.get("key_name") or "")
        changed = msgspec.structs.replace(key, name=name)

        def write(tx: Transaction) -> Result:
            if name != key.name:
                check_new_names(tx, call.mount.id, "", name)
                put(tx, KEYS, f"{call.mount.id}/{key.id}", changed)
            gone = bool(key.name) and not name
            warnings = (_UNNAMED.format(id=key.id),) if gone else ()
            return Result(data=key_data(changed), warnings=warnings, subject={"key": key.id})

        return Change(write)

    def delete(self, call: Call) -> Change:
        """The key is unusable at once; its object in the HSM is destroyed after a waiting time.

        Raises:
            KmsError(INVALID): an issuer still uses it.
        """
        reader, ref = self.store.reader(), str(call.args["key_ref"])
        if ref == "default":
            ref = self.authorities.config(call.mount.id).default_key
        key = find_key(reader, call.mount.id, ref) if ref else None
        if key is None:
            return Change(lambda _: Result())
        used = [issuer.id for issuer in issuers(reader, call.mount.id) if issuer.key_id == key.id]
        if used:
            raise invalid(f"Failed to Delete Key.  Key in Use by Issuer: {used[0]}")
        wanted = key.id

        def write(tx: Transaction) -> Result:
            retire_key(tx, call.mount.id, wanted, int(call.now))
            return Result(subject={"key": wanted})

        return Change(write)


def key_data(key: CaKey) -> dict[str, Any]:
    """What every answer about a key has."""
    return {"key_id": key.id, "key_name": key.name, "key_type": KINDS[key.spec].key_type}
