"""LIST answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kms.errors import not_found
from kms.operation import Call, Result
from kms.tables import Reader, Store, Table
from pki.certinfo import certificate_info
from pki.model import wire_serial
from pki.store import CERTIFICATES, REVOCATIONS


def listed(keys: list[str], args: Mapping[str, Any] | None = None, **more: Any) -> Result:
    """A LIST answer; an empty one is 404, as in the peer. With `args`, the page that they ask for."""
    if args is not None:
        after, limit = str(args.get("after") or ""), int(args.get("limit") or 0)
        if after:
            keys = [key for key in keys if key > after]
        keys = keys[:limit] if limit > 0 else keys
    if not keys:
        raise not_found()
    return Result(data={"keys": keys, **more})


def page(reader: Reader, table: Table[Any], prefix: str, args: Mapping[str, Any]) -> list[str]:
    """Keys below `prefix`, after `after`, at most `limit` (0: all)."""
    after, limit = str(args.get("after") or ""), int(args.get("limit") or 0)
    found = reader.keys(table, prefix, after=prefix + after if after else "", limit=limit or None)
    return [key.removeprefix(prefix) for key in found]


@dataclass(frozen=True)
class CertificateLists:
    """One per process."""

    store: Store

    def cert_list(self, call: Call) -> Result:
        """Serial numbers of all certificates on record."""
        after = str(call.args.get("after") or "").replace(":", "").replace("-", "").lower()
        found = page(self.store.reader(), CERTIFICATES, f"{call.mount.id}/", {**call.args, "after": after})
        return listed([wire_serial(serial) for serial in found])

    def detailed(self, call: Call) -> Result:
        """The same with what each certificate says."""
        after = str(call.args.get("after") or "").replace(":", "").replace("-", "").lower()
        prefix = f"{call.mount.id}/"
        serials = page(self.store.reader(), CERTIFICATES, prefix, {**call.args, "after": after})
        info = {}
        for serial in serials:
            row = self.store.reader().get(CERTIFICATES, prefix + serial)
            if row is not None and row.value.certificate:
                info[wire_serial(serial)] = certificate_info(row.value.certificate)
        return listed(list(info), key_info=info)

    def revoked_list(self, call: Call) -> Result:
        """Serial numbers of all revoked certificates."""
        keys = self.store.reader().keys(REVOCATIONS, f"{call.mount.id}/")
        return listed(sorted(wire_serial(key.rpartition("/")[2]) for key in keys))
