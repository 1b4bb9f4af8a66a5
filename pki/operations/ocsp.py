"""OCSP and its responders."""

from __future__ import annotations

from typing import Any

from kms.operation import External, Field, Operation, Runs
from pki.declaring import Facts
from pki.fields import ISSUER
from pki.operations.kinds import PKI
from pki.responders import OPERATION
from pki.service import PkiService


def table(service: PkiService) -> list[Operation]:
    """Operations of this file, for the registry."""

    def undo(intent: Facts) -> External[Any] | None:
        return service.leftovers.resolve(intent, int(service.clock.now()))

    request = (Field("request"),)
    return [
        PKI.document("ocsp-post", service.ocsp.post, request, runs=Runs.THREAD),
        PKI.document("ocsp-get", service.ocsp.get, request, runs=Runs.THREAD),
        PKI.external(OPERATION.removeprefix("pki."), service.responders.rotate, undo, ISSUER),
    ]
