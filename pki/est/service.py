"""EST of one process: builds the parts on those of the CA."""

from __future__ import annotations

from kms.tables import Store, Transaction
from pki.est.callers import Authorize, Callers
from pki.est.enrollment import Enrollment
from pki.est.places import Places
from pki.est.settings import EstSettings
from pki.est.store import CONFIG, USERS
from pki.leftovers import delete_all
from pki.rolebook import RoleBook
from pki.service import PkiService

WELL_KNOWN = "est"


class EstService:
    """All verbs of EST."""

    def __init__(self, store: Store, pki: PkiService, authorize: Authorize) -> None:
        roles = RoleBook(store)
        self.clock = pki.clock
        self.places = Places(store, pki.authorities, roles)
        self.settings = EstSettings(store, self.places, roles)
        callers = Callers(store, authorize)
        self.enrollment = Enrollment(self.places, callers, pki.issuance, pki.verbatim)

    def mount_of(self, path: str) -> str | None:
        """The id of the mount that answers `path` below /.well-known/, or None."""
        parts = path.split("/")
        if parts[0] != WELL_KNOWN or not 2 <= len(parts) <= 3:
            return None
        return self.places.labelled(parts[1] if len(parts) == 3 else "")

    def retire_mount(self, tx: Transaction, mount_id: str) -> None:
        """A mount is being removed."""
        delete_all(tx, CONFIG, mount_id)
        delete_all(tx, USERS, f"{mount_id}/")
