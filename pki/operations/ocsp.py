"""OCSP and its responders."""

from __future__ import annotations

from typing import Any

from kms.operation import Caller, Capability, Evidence, External, Field, Operation, Runs
from pki.fields import ISSUER
from pki.operations.kinds import Facts, external
from pki.responders import OPERATION
from pki.service import PkiService


def table(service: PkiService) -> list[Operation]:
    """Operations of this file, for the registry."""

    def undo(intent: Facts) -> External[Any] | None:
        return service.leftovers.resolve(intent, int(service.clock.now()))

    request = Field("request")
    return [
        *(
            Operation(
                f"pki.ocsp-{name}",
                Capability.READ,
                act,
                caller=Caller.PUBLIC,
                evidence=Evidence.COUNTED,
                runs=Runs.THREAD,
                fields=(request,),
            )
            for name, act in (("post", service.ocsp.post), ("get", service.ocsp.get))
        ),
        external(OPERATION.removeprefix("pki."), service.responders.rotate, undo, ISSUER),
    ]
