"""Revoking, CRLs on demand, tidying."""

from __future__ import annotations

from kms.operation import Capability, Effect, Field, Operation, Type
from pki.fields import AUTO_TIDY_FIELDS, ISSUER, TIDY_FIELDS, clear
from pki.operations.kinds import external, listing, nothing_happened, read, state
from pki.service import PkiService

_LIST = (
    clear("crl_number", Type.INT, 0),
    clear("delta_crl_base_number", Type.INT, -1),
    clear("next_update", default="72h"),
    clear("format", default="pem"),
)


def table(service: PkiService) -> list[Operation]:
    """Operations of this file, for the registry."""
    renew = service.renewals.resolve
    return [
        state("revoke", service.revocations.revoke, (clear("serial_number"), Field("certificate"))),
        state(
            "revoke-with-key",
            service.revocations.with_key,
            (clear("serial_number"), Field("certificate"), Field("private_key")),
        ),
        state("issuer-revoke", service.issuer_revocation.revoke, ISSUER),
        external(
            "resign-crls",
            service.resigning.resign,
            nothing_happened,
            (*ISSUER, *_LIST, Field("crls", Type.STRINGS, [])),
        ),
        external(
            "sign-revocation-list",
            service.resigning.sign,
            nothing_happened,
            (*ISSUER, *_LIST, Field("revoked_certs", Type.ITEMS), Field("extensions", Type.ITEMS)),
        ),
        listing("certs-revoked-list", service.lists.revoked_list),
        Operation(
            "pki.crl-rotate",
            Capability.READ,
            service.renewals.rotate,
            effect=Effect.EXTERNAL,
            resolve=renew,
        ),
        Operation(
            "pki.crl-rotate-delta",
            Capability.READ,
            service.renewals.rotate_delta,
            effect=Effect.EXTERNAL,
            resolve=renew,
        ),
        # Of external effect because the background job records its own runs under this name.
        external("tidy", service.tidying.tidy, nothing_happened, TIDY_FIELDS),
        read("config-auto-tidy-read", service.tidying.auto_read),
        state("config-auto-tidy-write", service.tidying.auto_write, AUTO_TIDY_FIELDS),
        Operation("pki.tidy-cancel", Capability.UPDATE, service.tidying.cancel),
        read("tidy-status", service.tidying.status),
    ]
