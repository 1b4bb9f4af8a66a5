"""External account binding (RFC 8555 7.3.4): keys that an operator gives out, each good for one account.

`new-eab` below a directory makes one for that directory; `eab` lists and deletes those that nobody used yet.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Any

from kms.ids import new_uuid
from kms.operation import Call, Change, Result
from kms.tables import Store, Transaction
from pki.acme.directories import Directories
from pki.acme.jwk import base64url, canonical, unbase64url
from pki.acme.jws import json_object
from pki.acme.model import EAB_LIFETIME, Binding
from pki.acme.problems import AcmeProblem, malformed
from pki.acme.store import BINDINGS
from pki.listing import listed, page
from pki.validity import iso

_KEY_BYTES = 32
_KEY_TYPE = "hs"
_DIGESTS = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}


class Bindings:
    """One per process."""

    def __init__(self, store: Store, directories: Directories) -> None:
        self._store = store
        self._directories = directories

    def create(self, call: Call) -> Change:
        """new-eab: the answer is the only place where the key is ever shown."""
        directory = self._directories.of(call)
        now = int(call.now)
        made = Binding(
            mount_id=call.mount.id,
            id=new_uuid(),
            directory=directory.prefix,
            secret=secrets.token_bytes(_KEY_BYTES),
            created_at=now,
            delete_after=now + EAB_LIFETIME,
        )

        def write(tx: Transaction) -> Result:
            tx.insert(BINDINGS, f"{made.mount_id}/{made.id}", made)
            data = {"id": made.id, "key": base64url(made.secret), **_shown(made)}
            return Result(data=data, subject={"eab": made.id, "directory": made.directory})

        return Change(write)

    def list(self, call: Call) -> Result:
        """Those not used yet."""
        mount_id, reader = call.mount.id, self._store.reader()
        found = {}
        for name in page(reader, BINDINGS, f"{mount_id}/", call.args):
            row = reader.get(BINDINGS, f"{mount_id}/{name}")
            if row is not None and call.now < row.value.delete_after:
                found[name] = _shown(row.value)
        return listed(sorted(found), key_info=found)

    def delete(self, call: Call) -> Change:
        """No account can be made with it any more; accounts that were are not touched."""
        key = f"{call.mount.id}/{call.args['key_id']}"

        def write(tx: Transaction) -> Result:
            row = tx.get(BINDINGS, key)
            if row is None:
                return Result(warnings=("No key id found with id: " + str(call.args["key_id"]),))
            tx.delete(BINDINGS, row)
            return Result(subject={"eab": row.value.id})

        return Change(write)


def use(tx: Transaction, mount_id: str, directory: str, url: str, bound: Any, jwk: bytes, *, now: int) -> str:
    """Check `externalAccountBinding` for the account key `jwk`, spend the binding, return its id.

    Raises:
        AcmeProblem(malformed, unauthorized): not a binding of this directory, or used before.
    """
    if not isinstance(bound, dict) or set(bound) != {"protected", "payload", "signature"}:
        raise malformed("externalAccountBinding is a flattened JWS")
    protected, payload, signature = bound["protected"], bound["payload"], bound["signature"]
    if not (isinstance(protected, str) and isinstance(payload, str) and isinstance(signature, str)):
        raise malformed("externalAccountBinding is a flattened JWS")
    header = json_object(unbase64url(protected, "protected"), "the binding's protected header")
    if set(header) != {"alg", "kid", "url"} or header["url"] != url:
        raise malformed(
            "the binding's protected header has alg, kid and the url of this request, and no nonce"
        )
    digest = _DIGESTS.get(header["alg"]) if isinstance(header["alg"], str) else None
    if digest is None:
        raise AcmeProblem("badSignatureAlgorithm", "a binding is signed with HS256, HS384 or HS512")
    row = tx.get(BINDINGS, f"{mount_id}/{header['kid']}") if isinstance(header["kid"], str) else None
    # The same cost and answer for a kid that is unknown, used, of another directory, or under another key.
    secret = row.value.secret if row is not None else bytes(_KEY_BYTES)
    expected = hmac.digest(secret, f"{protected}.{payload}".encode("ascii", "replace"), digest)
    right = hmac.compare_digest(expected, unbase64url(signature, "signature"))
    if row is None or not right or row.value.directory != directory or now >= row.value.delete_after:
        raise AcmeProblem(
            "unauthorized", "the external account binding is unknown, used, or not signed with its key"
        )
    if not _same_key(unbase64url(payload, "payload"), jwk):
        raise malformed("the payload of the binding is not the key of the account")
    tx.delete(BINDINGS, row)
    return row.value.id


def _same_key(payload: bytes, jwk: bytes) -> bool:
    return canonical(json_object(payload, "the binding's payload")) == jwk


def _shown(binding: Binding) -> dict[str, Any]:
    return {
        "acme_directory": f"{binding.directory}directory",
        "created_on": iso(binding.created_at),
        "key_type": _KEY_TYPE,
    }
