"""The CA's table of operations, one file for each area."""

from __future__ import annotations

from kms.operation import Operation
from pki.operations import authorities, cel, leaves, ocsp, public, revocation, roles, settings
from pki.service import PkiService

_AREAS = (authorities, leaves, revocation, ocsp, roles, cel, settings, public)


def operations(service: PkiService) -> list[Operation]:
    """All operations of the engine, for the registry."""
    return [operation for area in _AREAS for operation in area.table(service)]


__all__ = ["operations"]
