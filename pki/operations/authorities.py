"""Making, changing and removing CAs."""

from __future__ import annotations

from typing import Any

from kms.operation import Call, Capability, Effect, External, Field, Operation, Type
from pki.fields import CA_FIELDS, CSR_FIELDS, ISSUER, SUBORDINATE_FIELDS, URLS, clear
from pki.issuance import resolve_issue
from pki.operations.kinds import Facts, external, listing, nothing_happened, read, state
from pki.service import PkiService


def table(service: PkiService) -> list[Operation]:
    """Operations of this file, for the registry."""

    def undo(intent: Facts) -> External[Any] | None:
        return service.leftovers.resolve(intent, int(service.clock.now()))

    def close(intent: Facts) -> External[Any] | None:
        return resolve_issue(intent, int(service.clock.now()))

    def sign(call: Call) -> External[bytes]:
        return service.subordinates.sign(call, str(call.args.get("issuer_ref") or "default"))

    return [
        external("root-generate", service.ceremonies.root, undo, CA_FIELDS),
        external("intermediate-generate", service.ceremonies.intermediate, undo, CSR_FIELDS),
        external(
            "intermediate-set-signed",
            service.imports.certificates,
            nothing_happened,
            (Field("certificate"), Field("pem_bundle")),
        ),
        external(
            "sign-intermediate", sign, close, (*SUBORDINATE_FIELDS, clear("issuer_ref", default="default"))
        ),
        state(
            "issuer-write",
            service.issuers.issuer_write,
            (
                *ISSUER,
                clear("issuer_name"),
                clear("leaf_not_after_behavior", default="err"),
                clear("usage", Type.STRINGS, []),
                *URLS,
            ),
        ),
        read("issuer-read", service.issuers.issuer_read, ISSUER),
        listing("issuers-list", service.issuers.issuer_list),
        read("key-read", service.issuers.key_read, (clear("key_ref"),)),
        listing("keys-list", service.issuers.key_list),
        Operation(
            "pki.issuer-delete",
            Capability.DELETE,
            service.issuers.issuer_delete,
            effect=Effect.STATE,
            fields=ISSUER,
        ),
        # Of external effect because the background job that destroys the object records it under this name.
        Operation(
            "pki.key-delete",
            Capability.DELETE,
            service.issuers.key_delete,
            effect=Effect.EXTERNAL,
            resolve=undo,
            fields=(clear("key_ref"),),
        ),
        Operation(
            "pki.root-delete",
            Capability.DELETE,
            service.issuers.root_delete,
            effect=Effect.STATE,
            sudo=True,
        ),
    ]
