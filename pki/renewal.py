"""Signing CRLs as external acts: on demand, before the old one ends, after a crash.

An act claims its CRLs in the commit of its intent, so that of all who find one behind a single one makes it.
A claim whose holder died ends by itself; what the holder had signed was never published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError
from kms.ids import new_id
from kms.operation import Call, External, Outcome, Result
from kms.tables import Store, Transaction
from pki import marks
from pki.authority import Authorities
from pki.crl import CrlMaker
from pki.marks import Scope
from pki.model import CrlMark, MountConfig, PublicCrl
from pki.store import CRL_MARKS, CRL_SHARDS, PUBLIC_CRLS, issuers
from pki.validity import parse_go_duration

Crls = dict[Scope, tuple[PublicCrl, tuple[str, ...]]]

OPERATION = "pki.crl-rotate"  # what every CRL that is made in the background is recorded under
_AT_ONCE = 64  # CRLs in one turn of the jobs process, which has other work too
_DELTA_NOOP = "requested rebuild of delta CRL when delta CRL is not enabled; this is a no-op"


@dataclass(frozen=True)
class Renewals:
    """Makes the acts. One per process."""

    store: Store
    authorities: Authorities
    maker: CrlMaker
    clock: Clock

    def renewal(self, scope: Scope, *, whole: bool) -> External[Crls]:
        """The next CRL of one scope; `whole` as in `CrlMaker.make`."""
        return CrlAct(self, scope.mount_id, (scope,), whole).external()

    def rotate(self, call: Call) -> Outcome:
        """A new complete CRL, and its delta where those are enabled, for every issuer of the mount that can sign."""
        delta = self.authorities.config(call.mount.id).enable_delta
        return self._rotate(call, (marks.complete, marks.delta) if delta else (marks.complete,))

    def rotate_delta(self, call: Call) -> Outcome:
        """A new delta CRL for every issuer."""
        if not self.authorities.config(call.mount.id).enable_delta:
            return Result(data={"success": True}, warnings=(_DELTA_NOOP,))
        return self._rotate(call, (marks.delta,))

    def _rotate(self, call: Call, kinds: tuple[Callable[[str, str], Scope], ...]) -> Outcome:
        mount_id = call.mount.id
        able = [
            issuer.id for issuer in issuers(self.store.reader(), mount_id) if self.able(mount_id, issuer.id)
        ]
        scopes = tuple(kind(mount_id, issuer_id) for issuer_id in able for kind in kinds)
        if not scopes:
            return Result(data={"success": True})
        return CrlAct(self, mount_id, scopes, True, finish=lambda: {"success": True}).external()

    def due(self, now: int) -> list[tuple[Scope, bool]]:
        """CRLs past half of their life (to be made whole), or behind the revocations; no more than one turn takes."""
        found: list[tuple[Scope, bool]] = []
        for scope, mark in self._known():
            config = self.authorities.config(scope.mount_id)
            if marks.claimed(mark, now):
                continue
            late = now >= mark.this_update + (mark.next_update - mark.this_update) // 2
            if (late or self._lags(scope, mark, config, now)) and self.able(scope.mount_id, scope.issuer_id):
                found.append((scope, late))
            if len(found) == _AT_ONCE:
                break
        return found

    def _lags(self, scope: Scope, mark: CrlMark, config: MountConfig, now: int) -> bool:
        if scope.name == marks.DELTA:
            interval = parse_go_duration(config.delta_rebuild_interval)
            return self.behind(scope) and now >= mark.this_update + interval
        return self.behind(scope)

    def _known(self) -> Iterator[tuple[Scope, CrlMark]]:
        reader = self.store.reader()
        for row in reader.scan(CRL_MARKS):
            yield marks.scope_of(row.key), row.value
        for key in reader.keys(PUBLIC_CRLS):
            if key.count("/") == 1 and reader.get(CRL_MARKS, f"{key}/{marks.COMPLETE}") is None:
                yield marks.complete(*key.split("/")), CrlMark()  # published before there were marks

    def behind(self, scope: Scope) -> bool:
        """Whether the published CRL lacks what it must say, as far as the settings do not allow it to."""
        return self.target(scope) > 0

    def target(self, scope: Scope) -> int:
        """The number that the published CRL must be above; 0 when it is fresh."""
        reader = self.store.reader()
        mark = marks.mark_of(reader, scope)
        now = int(self.clock.now())
        if not mark.built or now >= mark.next_update:
            return mark.built + 1
        if scope.name == marks.DELTA:
            whole = marks.mark_of(reader, marks.complete(scope.mount_id, scope.issuer_id))
            if mark.base != whole.built:
                return max(mark.built, whole.built) + 1
            return whole.marked if whole.marked > mark.built else 0
        if mark.marked <= mark.built:
            return self._misplaced(scope, mark)
        if scope.name == marks.COMPLETE and self.authorities.config(scope.mount_id).auto_rebuild:
            return 0  # until then the delta lists it, and the shards
        return mark.marked

    def _misplaced(self, scope: Scope, mark: CrlMark) -> int:
        """A shard that certificates name under another URL as well."""
        if scope.shard is None:
            return 0
        row = self.store.reader().get(CRL_SHARDS, scope.issuer_key)
        return mark.built + 1 if row is not None and row.value.places != mark.places else 0

    def able(self, mount_id: str, issuer_id: str) -> bool:
        """Whether this issuer still exists, with its key, and may sign CRLs."""
        try:
            self.authorities.get(mount_id, issuer_id, "crl-signing")
        except KmsError as error:
            if error.kind is not ErrorKind.INVALID:
                raise
            return False
        return True

    def resolve(self, intent: Mapping[str, str | int]) -> External[None]:
        """Close what died before it published: nobody got that CRL, and the next one says the same."""

        def conclude(tx: Transaction, done: None) -> Result:
            del done
            for named in str(intent["crls"]).split(","):
                issuer_id, _, name = named.partition("/")
                marks.release(tx, Scope(str(intent["mount"]), issuer_id, name), str(intent["claim"]))
            return Result(subject=intent, partial=True)

        return External(intent, lambda _: None, lambda: None, conclude, lambda _tx, _error: None)


@dataclass
class CrlAct:
    """New CRLs of some scopes of a mount. `finish` gives the data of the answer."""

    renewals: Renewals
    mount_id: str
    scopes: tuple[Scope, ...]
    whole: bool
    finish: Callable[[], Mapping[str, object] | None] = lambda: None
    claim: str = field(default_factory=new_id)
    numbers: dict[Scope, int] = field(default_factory=dict)

    def external(self) -> External[Crls]:
        """For the pipeline."""
        named = ",".join(f"{scope.issuer_id}/{scope.name}" for scope in self.scopes)
        intent: dict[str, str | int] = {"mount": self.mount_id, "crls": named, "claim": self.claim}
        return External(intent, self.begin, self.perform, self.conclude, self.abandon)

    def begin(self, tx: Transaction) -> None:
        """Claim."""
        now = int(self.renewals.clock.now())
        for scope in self.scopes:
            self.numbers[scope] = marks.claim(tx, scope, self.claim, now)

    def perform(self) -> Crls:
        """Outside any transaction."""
        return {scope: self._make(scope, number) for scope, number in self.numbers.items()}

    def _make(self, scope: Scope, number: int) -> tuple[PublicCrl, tuple[str, ...]]:
        renewals = self.renewals
        authority = renewals.authorities.get(scope.mount_id, scope.issuer_id, "crl-signing")
        config, now = renewals.authorities.config(scope.mount_id), int(renewals.clock.now())
        return renewals.maker.make(authority, scope, number, config, now, whole=self.whole)

    def conclude(self, tx: Transaction, crls: Crls) -> Result:
        """Publish."""
        numbers = []
        for scope, (crl, places) in crls.items():
            marks.publish(tx, scope, crl, self.claim, places)
            numbers.append(f"{scope.issuer_id}/{scope.name}={crl.number}")
        subject: dict[str, str | int] = {"mount": self.mount_id, "crls": ",".join(numbers)}
        return Result(data=self.finish(), items=len(crls), subject=subject)

    def abandon(self, tx: Transaction, error: Exception) -> None:
        """Leave them behind: the next who fetches one, or the jobs process, makes it."""
        del error
        for scope in self.scopes:
            marks.release(tx, scope, self.claim)
