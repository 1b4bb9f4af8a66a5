"""Issuing."""

from __future__ import annotations

from typing import Any

from kms.operation import Call, External, Operation, Runs
from pki.fields import ISSUE_FIELDS, ISSUER, ROLE, SIGN_FIELDS, VERBATIM_FIELDS, clear
from pki.issuance import resolve_issue
from pki.operations.kinds import Facts, external, listing
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

    role = (clear("role", default=""),)
    return [
        external("issue", issue, close, (*ROLE, *ISSUE_FIELDS), Runs.THREAD),
        external("sign", sign, close, (*ROLE, *SIGN_FIELDS), Runs.THREAD),
        external("issuer-issue", issue_by, close, (*ISSUER, *ROLE, *ISSUE_FIELDS), Runs.THREAD),
        external("issuer-sign", sign_by, close, (*ISSUER, *ROLE, *SIGN_FIELDS), Runs.THREAD),
        external("sign-verbatim", verbatim, close, (*role, *VERBATIM_FIELDS), Runs.THREAD),
        external("issuer-sign-verbatim", verbatim_by, close, (*ISSUER, *role, *VERBATIM_FIELDS), Runs.THREAD),
        listing("certs-list", service.lists.cert_list),
    ]
