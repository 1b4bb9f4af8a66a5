"""Making, changing and removing CAs."""

from __future__ import annotations

from typing import Any

from kms.operation import Call, Caller, Capability, Effect, Evidence, External, Field, Operation, Type
from pki.declaring import Facts
from pki.fields import (
    CA_FIELDS,
    CSR_FIELDS,
    IMPORT_FIELDS,
    ISSUER,
    ISSUER_FIELDS,
    LIST_FIELDS,
    NEW_KEY_FIELDS,
    SUBORDINATE_FIELDS,
    clear,
)
from pki.issuance import resolve_issue
from pki.operations.kinds import external, listing, nothing_happened, read, state
from pki.service import PkiService


def table(service: PkiService) -> list[Operation]:
    """Operations of this file, for the registry."""

    def undo(intent: Facts) -> External[Any] | None:
        return service.leftovers.resolve(intent, int(service.clock.now()))

    def close(intent: Facts) -> External[Any] | None:
        return resolve_issue(intent, int(service.clock.now()))

    def sign(call: Call) -> External[bytes]:
        return service.subordinates.sign(call, str(call.args.get("issuer_ref") or "default"))

    def sign_self_issued(call: Call) -> External[bytes]:
        return service.selfissued.sign(call, str(call.args.get("issuer_ref") or "default"))

    once = service.idempotency
    issuers, keys, key = service.issuers, service.keys, (clear("key_ref"),)
    by_default = (clear("issuer_ref", default="default"),)
    self_issued = (
        Field("certificate", default=""),
        clear("require_matching_certificate_algorithms", Type.BOOL, False),
    )
    return [
        external("root-generate", service.ceremonies.root, undo, CA_FIELDS),
        external("root-rotate", service.ceremonies.rotate, undo, CA_FIELDS),
        external("intermediate-generate", service.requests.intermediate, undo, CSR_FIELDS),
        external("intermediate-cross-sign", service.requests.cross_sign, undo, CSR_FIELDS),
        external("intermediate-set-signed", service.imports.certificates, nothing_happened, IMPORT_FIELDS),
        external("import-bundle", service.imports.bundle, nothing_happened, IMPORT_FIELDS),
        external(
            "sign-intermediate", once.guard(sign), once.closing(close), (*SUBORDINATE_FIELDS, *by_default)
        ),
        external("sign-self-issued", sign_self_issued, close, (*self_issued, *by_default), sudo=True),
        state("issuer-write", issuers.issuer_write, ISSUER_FIELDS),
        Operation(
            "pki.issuer-patch",
            Capability.PATCH,
            issuers.issuer_patch,
            effect=Effect.STATE,
            fields=ISSUER_FIELDS,
        ),
        read("issuer-read", issuers.issuer_read, ISSUER),
        # Open to all, as in the peer: it names what is in public documents.
        Operation(
            "pki.issuers-list",
            Capability.LIST,
            issuers.issuer_list,
            caller=Caller.PUBLIC,
            evidence=Evidence.COUNTED,
            fields=LIST_FIELDS,
        ),
        Operation(
            "pki.issuer-delete",
            Capability.DELETE,
            issuers.issuer_delete,
            effect=Effect.STATE,
            fields=ISSUER,
        ),
        external("key-generate-internal", keys.internal, undo, NEW_KEY_FIELDS),
        external("key-generate-exported", keys.exported, undo, NEW_KEY_FIELDS),
        Operation("pki.key-generate-kms", Capability.UPDATE, keys.kms, fields=NEW_KEY_FIELDS),
        external(
            "key-import",
            service.imports.key,
            nothing_happened,
            (Field("pem_bundle", default=""), clear("key_name")),
        ),
        read("key-read", keys.read, key),
        state("key-write", keys.write, (*key, clear("key_name"))),
        listing("keys-list", keys.list),
        # Of external effect because the background job that destroys the object records it under this name.
        Operation(
            "pki.key-delete",
            Capability.DELETE,
            keys.delete,
            effect=Effect.EXTERNAL,
            resolve=undo,
            fields=key,
        ),
        Operation(
            "pki.root-delete",
            Capability.DELETE,
            issuers.root_delete,
            effect=Effect.STATE,
            sudo=True,
        ),
    ]
