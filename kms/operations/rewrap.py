"""rewrap: the same plaintext under a newer version, without the caller seeing it."""

from __future__ import annotations

from kms.errors import invalid
from kms.keys.service import KeyService
from kms.operation import Call, Result
from kms.operations.batch import Item, each, items_of
from kms.operations.encrypt import check_contexts, key_of
from kms.operations.sealing import Opener, Sealer, payload

_MISSING = "missing ciphertext to decrypt"


class Rewrapping:
    """The handler of transit.rewrap."""

    def __init__(self, service: KeyService) -> None:
        self._service = service

    def rewrap(self, call: Call) -> Result:
        """Decrypt and encrypt again. A batch answers 200; each item that failed says so.

        Associated data is not taken, as in the Vault API: what was sealed with some is re-encrypted
        by its owner.
        """
        args = call.args
        items = items_of(args)
        if items is None:
            if not args["ciphertext"]:
                raise invalid(_MISSING)
            context = payload(args["context"]) if args["context"] else b""
            live = key_of(self._service, call)
            plaintext = Opener(live).open(args["ciphertext"], "", context)
            ciphertext, version = Sealer(live, 1).seal(args["key_version"], plaintext, "", context)
            return Result(
                data={"ciphertext": ciphertext, "key_version": version},
                subject={"key_id": live.key.id, "key_version": version},
            )
        check_contexts([str(item.get("context") or "") for item in items])
        live = key_of(self._service, call)
        opener, sealer = Opener(live), Sealer(live, len(items))

        def work(item: Item, _index: int) -> Item:
            given = item.get("ciphertext")
            if not given:
                raise invalid(_MISSING)
            context = payload(str(item["context"])) if item.get("context") else b""
            requested = item.get("key_version") or 0
            if not isinstance(requested, int):
                raise invalid("key_version must be a number")
            ciphertext, version = sealer.seal(requested, opener.open(str(given), "", context), "", context)
            return {"ciphertext": ciphertext, "key_version": version}

        results, failures = each(items, work, {})
        return Result(
            data={"batch_results": results},
            items=len(results),
            subject={"key_id": live.key.id, "failed": failures},
        )
