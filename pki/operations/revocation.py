"""Revoking, CRLs on demand, tidying."""

from __future__ import annotations

from kms.operation import Capability, Effect, Field, Operation, Type
from pki.fields import clear
from pki.operations.kinds import listing, read, state
from pki.service import PkiService


def table(service: PkiService) -> list[Operation]:
    """Operations of this file, for the registry."""
    renew = service.renewals.resolve
    return [
        state("revoke", service.revocations.revoke, (clear("serial_number"), Field("certificate"))),
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
        state(
            "tidy",
            service.tidying.tidy,
            (
                clear("tidy_cert_store", Type.BOOL, False),
                clear("tidy_revoked_certs", Type.BOOL, False),
                clear("tidy_revocation_list", Type.BOOL, False),
                clear("safety_buffer", Type.SECONDS, 259_200),
            ),
        ),
        Operation("pki.tidy-cancel", Capability.UPDATE, service.tidying.cancel),
        read("tidy-status", service.tidying.status),
    ]
