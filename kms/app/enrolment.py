"""EST's ties to the rest: who a credential is, what policy says of it, and which mount a well-known path means."""

from __future__ import annotations

from collections.abc import Callable

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError
from kms.identity import TokenService
from kms.identity.methods.lockout import Lockouts
from kms.identity.methods.logins import Logins
from kms.identity.methods.userpass import Userpass
from kms.operation import Call, Principal
from kms.policy import PolicyService
from kms.system.mounts import MountTable, reference
from kms.tables import Store
from pki.est.callers import Authorize
from pki.est.service import WELL_KNOWN, EstService
from pki.service import PkiService


class Enrolment:
    """One per process."""

    def __init__(
        self,
        store: Store,
        pki: PkiService,
        tokens: TokenService,
        policies: PolicyService,
        mounts: MountTable,
        logins: Logins,
        clock: Clock,
        *,
        demand_open: Callable[[], None],
    ) -> None:
        self._demand_open = demand_open
        self._policies = policies
        self._mounts = mounts
        self._users = Userpass(store, logins, Lockouts(store, clock))
        self.service = EstService(store, pki, Authorize(tokens.authenticate, self._demand, self._userpass))

    def well_known(self, path: str) -> str | None:
        """The path below /v1/ that `path` below /.well-known/ stands for, or None.

        Raises:
            KmsError(UNINITIALIZED, SEALED, HSM_UNAVAILABLE): nobody can know now.
        """
        if not path.startswith(f"{WELL_KNOWN}/"):
            return None
        self._demand_open()  # this may be the first request of this process, and which mount it is stands in sealed rows
        wanted = self.service.mount_of(path)
        found = (key for key, row in self._mounts.rows().items() if row.value.id == wanted)
        return next((f"{mount}{path}" for mount in found), None) if wanted is not None else None

    def _demand(self, principal: Principal, call: Call) -> None:
        if not self._policies.decide_within(principal, call).allowed:
            raise KmsError(ErrorKind.DENIED, "permission denied")

    def _userpass(self, accessor: str, name: str, password: str, call: Call) -> Principal:
        rows = self._mounts.within(call.mount.namespace).values()
        found = [row for row in rows if row.value.accessor == accessor and row.value.type == "userpass"]
        try:
            if found:
                return self._users.principal(reference(found[0]), name, password, call.peer)
        except KmsError as error:
            if error.kind is not ErrorKind.INVALID:
                raise
        raise KmsError(ErrorKind.UNAUTHENTICATED, "invalid username or password")
