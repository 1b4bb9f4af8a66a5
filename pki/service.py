"""The CA of one process: builds the parts and names the background work.

Built after the fork, with the process's own store and HSM. Nothing here decides; each part is a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kms.cel import Sandbox
from kms.clock import Clock
from kms.leases import LeaseBook
from kms.operation import External
from kms.tables import Store, Transaction
from pki.authority import Authorities
from pki.celissue import CelIssuance
from pki.celroles import CelRoles
from pki.ceremony import Ceremonies
from pki.crl import CrlMaker
from pki.crldocuments import CrlDocuments
from pki.freshness import FreshCrls, Road
from pki.goodkey import Blocklist
from pki.hsmkey import CaToken, LateToken
from pki.idempotency import Derive, Idempotency
from pki.importing import Imports
from pki.index import CertificateIndex
from pki.issuance import Issuance
from pki.issuerrevoke import IssuerRevocation
from pki.issuersadmin import IssuersAdmin
from pki.keysadmin import KeysAdmin
from pki.leftovers import Leftovers
from pki.lint import SAMPLE, Linter
from pki.listing import CertificateLists
from pki.ocsp import Ocsp
from pki.public import PublicDocuments
from pki.reissue import Reissue
from pki.renewal import OPERATION, Renewals
from pki.requesting import Requests
from pki.resigning import Resigning
from pki.responders import OPERATION as RESPONDER
from pki.responders import Responders
from pki.revocation import RevocationDesk
from pki.rolebook import RoleBook
from pki.rolesadmin import RolesAdmin
from pki.search import CertificateSearch
from pki.selfissued import SelfIssued
from pki.settings import Settings
from pki.subordinate import Subordinates
from pki.tidy import Tidying
from pki.verbatim import Verbatim


@dataclass(frozen=True, slots=True)
class Chore:
    """Background work that has come due: run `external` like a request, with intent and outcome.

    `operation` is the registered name to record it under, and what resolves it after a crash.
    """

    operation: str
    mount_id: str
    external: External[Any]


class PkiService:
    """All verbs of the CA.

    Args:
        get_token: gives the open HSM, or says why there is none.
        leases: where certificates of roles with `generate_lease` get theirs.
        programs: where programs of roles run; one of its own where none is given.
        derive: keys of this instance for named uses; called while it is unsealed.
        blocklist: keys that no certificate may carry.
        lint_sample: pkilint sees one certificate in this many of a known shape, 1 for every one.
    """

    def __init__(
        self,
        store: Store,
        get_token: Callable[[], CaToken],
        clock: Clock,
        leases: LeaseBook,
        programs: Sandbox | None = None,
        *,
        derive: Derive,
        blocklist: Blocklist | None = None,
        lint_sample: int = SAMPLE,
    ) -> None:
        blocked = blocklist if blocklist is not None else Blocklist()
        token = LateToken(get_token)
        self.clock = clock
        self.linter = Linter(lint_sample)
        self.idempotency = Idempotency(store, derive)
        self.authorities = Authorities(store)
        crls = CrlMaker(store, token, self.linter)
        self.ceremonies = Ceremonies(store, token, self.linter, crls)
        self.requests = Requests(store, token)
        self.imports = Imports(store, crls, blocked)
        self.subordinates = Subordinates(token, self.authorities, self.linter, blocked)
        self.selfissued = SelfIssued(token, self.authorities, self.linter, blocked)
        book = RoleBook(store)
        self.index = CertificateIndex(store, derive)
        self.issuance = Issuance(
            store, token, self.authorities, book, self.linter, blocked, leases, self.index
        )
        self.cel_roles = CelRoles(store, programs if programs is not None else Sandbox())
        self.cel = CelIssuance(
            store,
            token,
            self.authorities,
            self.cel_roles,
            self.linter,
            blocked,
            leases,
            self.index,
        )
        self.reissue = Reissue(store, self.issuance)
        self.verbatim = Verbatim(store, token, self.authorities, book, self.linter, blocked, self.index)
        self.renewals = Renewals(store, self.authorities, crls, clock)
        self.crls = FreshCrls(store, self.renewals, clock)
        self.responders = Responders(store, token, self.authorities, self.linter, clock)
        self.ocsp = Ocsp(store, token, self.authorities, self.responders, self.linter)
        self.revocations = RevocationDesk(store, self.authorities)
        self.issuer_revocation = IssuerRevocation(store, self.authorities, self.revocations)
        self.resigning = Resigning(store, token, self.authorities, self.linter)
        self.leftovers = Leftovers(store, token)
        self.settings = Settings(store, self.authorities)
        self.roles = RolesAdmin(store, self.authorities)
        self.issuers = IssuersAdmin(store, self.authorities)
        self.keys = KeysAdmin(store, token, self.authorities)
        self.lists = CertificateLists(store)
        self.public = PublicDocuments(store)
        self.crl_documents = CrlDocuments(self.public, self.crls)
        self.searching = CertificateSearch(store, self.authorities, self.index)
        self.tidying = Tidying(store)

    def travel(self, road: Road) -> None:
        """Let requests that find a document out of date have it made; without, the last one is served."""
        self.crls.road = road
        self.responders.road = road

    def chores(self, now: float) -> Iterator[Chore]:
        """What the jobs process runs, each minute or so: CRLs before they end or when they lag behind the
        revocations, HSM objects of failed ceremonies, and tidying where config/auto-tidy says so. Ends with what
        leaves no record: rows past their time.
        """
        for scope, whole in self.renewals.due(int(now)):
            yield Chore(OPERATION, scope.mount_id, self.renewals.renewal(scope, whole=whole))
        for mount_id, issuer_id in self.responders.due(int(now)):
            yield Chore(RESPONDER, mount_id, self.responders.making(mount_id, issuer_id))
        for mount_id, key in self.leftovers.unwanted(int(now)):
            yield Chore("pki.key-delete", mount_id, self.leftovers.removal(mount_id, key))
        for mount_id, tidying in self.tidying.due(int(now)):
            yield Chore("pki.tidy", mount_id, tidying)
        self.idempotency.reap(int(now))

    def retire_mount(self, tx: Transaction, mount_id: str) -> int:
        """A mount is being removed: nothing of it signs or is served any more. Returns how many keys.

        The keys' objects stay in the HSM for `RETIRED_KEY_WAIT`; rows of certificates stay for the record.
        """
        return self.leftovers.retire_mount(tx, mount_id, int(self.clock.now()))
