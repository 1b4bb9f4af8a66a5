"""Routes of mount type "pki", one file for each area."""

from __future__ import annotations

from kms.http.vault.route import Route
from pki.http.routes import authorities, cel, leaves, ocsp, public, revocation, roles, settings

_AREAS = (authorities, leaves, revocation, ocsp, roles, cel, settings, public)

ROUTES: tuple[Route, ...] = tuple(route for area in _AREAS for route in area.ROUTES)

__all__ = ["ROUTES"]
