"""Issuing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kms.operation import Call, Caller, Capability, Effect, External, Field, Operation, Outcome, Runs
from pki.declaring import Facts
from pki.fields import (
    ISSUE_FIELDS,
    ISSUER,
    RENEW_FIELDS,
    ROLE,
    SEARCH_FIELDS,
    SIGN_FIELDS,
    VERBATIM_FIELDS,
    clear,
)
from pki.issuance import resolve_issue
from pki.operations.kinds import external, listing, read
from pki.service import PkiService


def table(service: PkiService) -> list[Operation]:
    """Operations of this file, for the registry."""

    def close(intent: Facts) -> External[Any] | None:
        return resolve_issue(intent, int(service.clock.now()))

    # The issuer comes from the path or from the role, never from the body: it is what policy saw.
    def issue(call: Call) -> External[bytes]:
        return service.issuance.issue(call)

    def sign(call: Call) -> External[bytes]:
        return service.issuance.sign(call)

    def issue_by(call: Call) -> External[bytes]:
        return service.issuance.issue(call, str(call.args["issuer_ref"]))

    def sign_by(call: Call) -> External[bytes]:
        return service.issuance.sign(call, str(call.args["issuer_ref"]))

    def verbatim(call: Call) -> External[bytes]:
        return service.verbatim.sign(call)

    def verbatim_by(call: Call) -> External[bytes]:
        return service.verbatim.sign(call, str(call.args["issuer_ref"]))

    def once(name: str, act: Callable[[Call], External[bytes]], fields: tuple[Field, ...]) -> Operation:
        guard = service.idempotency
        return external(name, guard.guard(act), guard.closing(close), fields, Runs.TOGETHER)

    def renew(call: Call) -> Outcome:
        return service.reissue.renew(call, service.idempotency.guard)

    role = (clear("role", default=""),)
    return [
        once("issue", issue, (*ROLE, *ISSUE_FIELDS)),
        once("sign", sign, (*ROLE, *SIGN_FIELDS)),
        once("issuer-issue", issue_by, (*ISSUER, *ROLE, *ISSUE_FIELDS)),
        once("issuer-sign", sign_by, (*ISSUER, *ROLE, *SIGN_FIELDS)),
        once("sign-verbatim", verbatim, (*role, *VERBATIM_FIELDS)),
        once("issuer-sign-verbatim", verbatim_by, (*ISSUER, *role, *VERBATIM_FIELDS)),
        Operation(
            "pki.renew",
            Capability.UPDATE,
            renew,
            effect=Effect.EXTERNAL,
            caller=Caller.PROOF,
            runs=Runs.TOGETHER,
            resolve=service.idempotency.closing(close),
            fields=RENEW_FIELDS,
        ),
        listing("certs-detailed", service.lists.detailed),
        listing("certs-list", service.lists.cert_list),
        read("certs-search", service.searching.search, SEARCH_FIELDS),
    ]
