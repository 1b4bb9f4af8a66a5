"""TokenService: who is asking, and the life of tokens.

A token is in force while its row exists, has not expired and has uses left, and the same holds for
each of its ancestors. This chain is walked for every request (a dictionary lookup per ancestor, all in
memory), and so a revocation is one small commit however large the tree below: once the row is gone or
marked, no worker accepts the token or any descendant. The alternative, deleting all descendants in the
transaction, would hold the only write lock for 0.1 ms each, ten seconds for a hundred thousand, and
marking them lazily would leave a window. Rows of dead descendants are deleted where few, else by `reap`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from msgspec.structs import replace

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError, invalid
from kms.identity.batch import BatchTokens, is_batch
from kms.identity.bearer import last_use, principal_of
from kms.identity.consent.model import CONSENTS
from kms.identity.entities.model import Standing
from kms.identity.entities.standing import Directory
from kms.identity.keys import (
    MAX_TOKEN,
    RowKeys,
    check_custom,
    check_sendable,
    new_accessor,
    new_token,
    refused,
)
from kms.identity.model import MAX_DEPTH, NEVER, REVOKED, ROOT_PATH, AccessorRow, Token
from kms.identity.networks import permits
from kms.identity.store import ACCESSORS, CUBBYHOLES, TOKENS
from kms.leases import LeaseBook
from kms.leases.desk import TokenLease
from kms.namespaces import NamespaceTable
from kms.operation import ROOT_NAMESPACE, NamespaceRef, Principal
from kms.policy import ROOT
from kms.sensitive import Sensitive
from kms.tables import Cache, Reader, Row, Store, Transaction

_CACHED = 16_384
# Rows deleted inside a revocation's own transaction; the rest is left to `reap`.
_EAGER = 200


class TokenService:
    """One per process, safe to use from several threads. Reads are as of the last `Store.refresh`.

    Args:
        mac_key: gives the key of the token HMACs; asked when first needed, because a sealed server
            has none.
        batch_key: gives the key of batch tokens.
        namespaces: those that tokens may belong to; None for the table of `store`.
    """

    def __init__(
        self,
        store: Store,
        mac_key: Callable[[], Sensitive],
        clock: Clock,
        batch_key: Callable[[], Sensitive],
        namespaces: NamespaceTable | None = None,
    ) -> None:
        self._store = store
        self._namespaces = namespaces or NamespaceTable(store, lambda: True, lambda: None)
        self._clock = clock
        self._keys = RowKeys(mac_key)
        self._batch = BatchTokens(batch_key)
        self.book = LeaseBook(store, clock)
        self._cache = Cache(store, TOKENS, _CACHED)
        self.directory = Directory(store)
        self._principals: dict[str, tuple[Row[Token], Standing | None, Principal]] = {}

    # -- the hot path -----------------------------------------------------------------------------

    def authenticate(self, token: str, peer: str) -> Principal:
        """The principal behind a token; one of its uses is spent, durably, where uses are limited.

        Args:
            token: as presented.
            peer: the address that it came from.

        Raises:
            KmsError(UNAUTHENTICATED): no token, unknown, revoked, expired, used up, of an entity that is disabled
                or gone, or from an address that it is not bound to: all the same.
        """
        if is_batch(token):
            return self._authenticate_batch(token, peer)
        if not token or len(token) > MAX_TOKEN:
            raise refused()
        key = self._keys.token(token)
        row = self._cache.get(key)
        if row is None:
            raise refused()
        held = row.value
        now = self._clock.now()
        if self._over(held, now) or (held.parent and not self._chain_alive(held.parent, now)):
            raise refused()
        if held.bound_cidrs and not permits(held.bound_cidrs, peer):
            raise refused()
        standing = self._standing(held)
        if held.num_uses:
            return self._principal(key, self._use(key, now), standing)
        known = self._principals.get(key)
        if known is not None and known[0] is row and known[1] is standing:
            return known[2]
        principal = self._principal(key, held, standing)
        if len(self._principals) >= _CACHED:
            self._principals.clear()
        self._principals[key] = (row, standing, principal)
        return principal

    def stands(self, principal: Principal) -> bool:
        """Whether the token behind a principal of the past is still in force; no use of it is spent."""
        now = self._clock.now()
        if principal.until and principal.until <= now:
            return False
        key = principal.lease_owner if principal.until else principal.token_id
        standing = self.directory.standing(principal.entity_id) if principal.entity_id else None
        if principal.entity_id and (standing is None or standing.entity.disabled):
            return False
        return not key or self._chain_alive(key, now)

    def _authenticate_batch(self, text: str, peer: str) -> Principal:
        key, held = self.presented(text) or ("", None)
        if held is None or (held.bound_cidrs and not permits(held.bound_cidrs, peer)):
            raise refused()
        last_use.set((key, held))
        return self._principal(key, held, self._standing(held))

    def presented(
        self, text: str, reader: Reader | None = None, within: NamespaceRef = ROOT_NAMESPACE
    ) -> tuple[str, Token] | None:
        """The token in force that a string is, and its row key; of a batch token, a name that no row has.

        One outside of the namespace `within` is as good as none.
        """
        found = self._presented(text, reader)
        return found if found is not None and self._reaches(within, found[1]) else None

    def _presented(self, text: str, reader: Reader | None) -> tuple[str, Token] | None:
        key = self._keys.token(text)
        if not is_batch(text):
            row = self.live(key, reader)
            return (key, row.value) if row is not None else None
        held = self._batch.open(text)
        if held is None or self._over(held, self._clock.now(), reader):
            return None
        if held.parent and self.live(held.parent, reader) is None:
            return None
        return key, held

    def _standing(self, token: Token) -> Standing | None:
        if not token.entity_id:
            return None
        standing = self.directory.standing(token.entity_id)
        if standing is None or standing.entity.disabled:
            raise refused()
        return standing

    def _chain_alive(self, key: str, now: float) -> bool:
        for _ in range(MAX_DEPTH + 1):
            row = self._cache.get(key)
            if row is None or self._over(row.value, now):
                return False
            key = row.value.parent
            if not key:
                return True
        return False

    def _over(self, token: Token, now: float, reader: Reader | None = None) -> bool:
        """Whether the token itself, whatever its ancestors are, is out of force."""
        if token.expires_at <= now:
            return True
        if token.namespace and self._namespaces.living(token.namespace) is None:
            return True
        if token.path.endswith("/") or token.path == ROOT_PATH:
            return False  # an issuer stands for its mount, whose later logins hang on it too
        login = token.login.partition("/")[2]
        return self.book.barriers.covers(token.path, token.created, login, reader)

    def _use(self, key: str, now: float) -> Token:
        # The cached row says only that uses are limited. How many are left is read and written under
        # the write lock, so that N uses are N requests, whatever the number of workers (T-33).
        with self._store.transaction() as tx:
            row = tx.get(TOKENS, key)
            if row is None or row.value.expires_at <= now:
                raise refused()
            if row.value.num_uses > 1:
                left = replace(row.value, num_uses=row.value.num_uses - 1)
                tx.replace(TOKENS, row, left)
                return left
            # Out of force, and deleted by `reap`: this very request may still look into its cubbyhole.
            tx.replace(TOKENS, row, replace(row.value, expires_at=REVOKED))
        spent = replace(row.value, num_uses=-1)
        last_use.set((key, spent))
        return spent

    # -- looking up -------------------------------------------------------------------------------

    def key_of(self, token: str) -> str:
        """The row key of a token string."""
        return self._keys.token(token)

    def key_within(self, token: str, namespace: NamespaceRef, reader: Reader | None = None) -> str:
        """The row key of a token of a namespace or of one below it, and "", which no row has, for any other."""
        row = self._row(self._keys.token(token), reader)
        return row.key if row is not None and self._reaches(namespace, row.value) else ""

    def _reaches(self, namespace: NamespaceRef, token: Token) -> bool:
        found = self._namespaces.living(token.namespace)
        return found is not None and namespace.covers(found)

    def living(self, namespace_id: str) -> NamespaceRef | None:
        """The namespace with this ID; None where there is none, or none that is still in force."""
        return self._namespaces.living(namespace_id)

    def namespace_of(self, token: Token) -> NamespaceRef:
        """Where a token belongs. Raises KmsError(UNAUTHENTICATED) when its namespace is being removed."""
        found = self._namespaces.living(token.namespace)
        if found is None:
            raise refused()
        return found

    def digest_of(self, what: str, secret: str) -> str:
        """HMAC of another secret that is stored nowhere, 64 hex digits; `what` keeps kinds apart."""
        return self._keys.other(what, secret)

    def live(self, key: str, reader: Reader | None = None) -> Row[Token] | None:
        """The row of a token in force, its whole chain checked. Inside a transaction, hand that in."""
        now = self._clock.now()
        found = row = self._row(key, reader)
        for _ in range(MAX_DEPTH + 1):
            if row is None or self._over(row.value, now, reader):
                return None
            if not row.value.parent:
                return found
            row = self._row(row.value.parent, reader)
        return None

    def _row(self, key: str, reader: Reader | None) -> Row[Token] | None:
        return self._cache.get(key) if reader is None else reader.get(TOKENS, key)

    def own(self, principal: Principal) -> Token | None:
        """The caller's own token, even if this request was its last use."""
        row = self.live(principal.token_id)
        if row is not None:
            return row.value
        key, token = last_use.get()
        return token if key == principal.token_id else None

    def key_of_accessor(
        self, accessor: str, namespace: NamespaceRef | None, reader: Reader | None = None
    ) -> str | None:
        """The row key of the token in force, of exactly this namespace (None: of any), that has this accessor."""
        if namespace is not None and accessor.partition(".")[2] != namespace.id:
            return None
        held = (reader or self._store.reader()).get(ACCESSORS, self._keys.accessor(accessor))
        if held is None or self.live(held.value.token, reader) is None:
            return None
        return held.value.token

    def accessors(self, namespace: NamespaceRef | None) -> list[str]:
        """The accessors of a namespace's tokens (None: of all) that have not expired, sorted. Reads every row."""
        reader = self._store.reader()
        dead = {row.key for row in reader.find(TOKENS, {}, below=self._expired())}
        known = sorted(row.value.accessor for row in reader.scan(ACCESSORS) if row.value.token not in dead)
        if namespace is None:
            return known
        return [accessor for accessor in known if accessor.partition(".")[2] == namespace.id]

    def principal_of_token(self, token: str, namespace: NamespaceRef = ROOT_NAMESPACE) -> Principal:
        """Who a token in force, of a namespace or of one below it, stands for; no use of it is spent.

        Raises:
            KmsError(INVALID): there is none. KmsError(UNAUTHENTICATED): its entity is disabled or gone.
        """
        found = self.presented(token, within=namespace)
        if found is None:
            raise invalid("invalid token")
        return self._principal(*found, self._standing(found[1]))

    def principal_at(self, key: str, peer: str) -> Principal | None:
        """Who the token with this row key stands for, used from this address; None unless it would be accepted."""
        row = self.live(key)
        if row is None or (row.value.bound_cidrs and not permits(row.value.bound_cidrs, peer)):
            return None
        try:
            return self._principal(row.key, row.value, self._standing(row.value))
        except KmsError as error:
            if error.kind is not ErrorKind.UNAUTHENTICATED:
                raise
            return None

    def principal_of_accessor(self, accessor: str, namespace: NamespaceRef | None) -> Principal:
        """The same, by the token's accessor; of exactly this namespace, or of any (None)."""
        key = self.key_of_accessor(accessor, namespace)
        row = self.live(key) if key else None
        if row is None:
            raise invalid("invalid accessor")
        return self._principal(row.key, row.value, self._standing(row.value))

    def leased(self, key: str, reader: Reader | None = None) -> TokenLease | None:
        """The token with this row key as its lease shows it, None unless it is in force."""
        row = self.live(key, reader)
        if row is None:
            return None
        held = row.value
        ends = held.expires_at if held.expires_at < NEVER else None
        return TokenLease(held.created, ends, held.last_renewal, held.renewable)

    @property
    def clock(self) -> Clock:
        """The clock that expiry is judged by."""
        return self._clock

    def reader(self) -> Reader:
        """Reads on this thread's connection."""
        return self._store.reader()

    def now(self) -> float:
        """Seconds since the epoch, on the clock that expiry is judged by."""
        return self._clock.now()

    # -- birth ----------------------------------------------------------------------------------

    def create_root(self, tx: Transaction, wanted: str = "") -> str:
        """The first root token: an orphan that never expires. `wanted` is its string, "" for a random one.

        Raises:
            KmsError(INVALID): `wanted` cannot be sent in a header.
        """
        self._keys.forget()
        token = check_sendable(wanted) if wanted else new_token()
        born = Token(
            accessor=new_accessor(),
            parent="",
            expires_at=NEVER,
            policies=(ROOT,),
            path=ROOT_PATH,
            display_name="root",
            created=self._clock.now(),
        )
        try:
            self._insert(tx, token, born)
        finally:
            self._keys.forget()
        return token

    def insert(self, tx: Transaction, born: Token, custom: str = "") -> str:
        """Store a new token and return its string, which nobody can read again.

        Raises:
            KmsError(INVALID): `custom` is not allowed or taken, the parent died meanwhile, or the chain
                of parents is too long.
        """
        token = check_custom(custom) if custom else new_token(born.namespace)
        if born.batch:
            return self._seal(tx, born)
        if born.parent and self.live(born.parent, tx) is None:
            raise invalid("parent token lookup failed: no parent found")
        if born.depth > MAX_DEPTH:
            raise invalid(f"a token has at most {MAX_DEPTH} ancestors; create an orphan")
        self._insert(tx, token, born)
        return token

    def adopt(self, tx: Transaction, born: Token, token: str) -> None:
        """Store a new orphan under a string that `new_token` made: for makers that must know it before."""
        self._insert(tx, token, born)

    def _seal(self, tx: Transaction, born: Token) -> str:
        if born.parent and self.live(born.parent, tx) is None:
            raise invalid("parent token lookup failed: no parent found")
        return self._batch.seal(replace(born, created=self._dated(tx, born)))

    def _dated(self, tx: Transaction, born: Token) -> float:
        return self.book.barriers.date(tx, born.path, born.created, born.login.partition("/")[2])

    def _insert(self, tx: Transaction, token: str, born: Token) -> None:
        key = self._keys.token(token)
        if tx.get(TOKENS, key) is not None:
            raise invalid("cannot create a token with a duplicate ID")
        created = self._dated(tx, born)
        tx.insert(TOKENS, key, replace(born, created=created))
        tx.insert(ACCESSORS, self._keys.accessor(born.accessor), AccessorRow(born.accessor, key))
        if born.path != ROOT_PATH:
            self.book.enter(tx, key, born.path, created)

    # -- death ----------------------------------------------------------------------------------

    def revoke(self, tx: Transaction, key: str) -> str:
        """Put a token and all its descendants out of force; they are refused once `tx` has committed.

        Returns:
            Its accessor, "" when there was no such token.
        """
        row = tx.get(TOKENS, key)
        if row is None:
            return ""
        left = self.book.leave(tx, key, self._prune(tx, key, _EAGER))
        if left >= 1:
            self._delete(tx, row)
        else:
            tx.replace(TOKENS, row, replace(row.value, expires_at=REVOKED))
        return row.value.accessor

    def revoke_orphan(self, tx: Transaction, key: str) -> str:
        """Put one token out of force; its children live on as orphans. Costs a write per child.

        Returns:
            Its accessor, "" when there was no such token.
        """
        row = tx.get(TOKENS, key)
        if row is None:
            return ""
        for child in tx.find(TOKENS, {"parent": key}):
            tx.replace(TOKENS, child, replace(child.value, parent=""))
        if self.book.leave(tx, key, _EAGER) >= 1:
            self._delete(tx, row)
        else:
            tx.replace(TOKENS, row, replace(row.value, expires_at=REVOKED))
        return row.value.accessor

    def reap(self, limit: int = 500) -> int:
        """Delete rows of tokens that have expired or were revoked, at most `limit`; returns how many.

        Called by the jobs process, again while it returns `limit`. Nothing waits for it: a dead row is
        refused as it is.
        """
        with self._store.transaction() as tx:
            return self.tidy(tx, limit)

    def tidy(self, tx: Transaction, limit: int = 500) -> int:
        """`reap` inside a caller's transaction."""
        left = limit
        for row in tx.find(TOKENS, {}, below=self._expired(), limit=limit):
            # An earlier one's tree may have held this one.
            held = tx.get(TOKENS, row.key)
            if held is None:
                continue
            left = self.book.leave(tx, row.key, self._prune(tx, row.key, left))
            if left < 1:
                break
            self._delete(tx, held)
            left -= 1
        return limit - left

    def _expired(self) -> tuple[str, float]:
        # `find` compares with <, and a token ends at its expiry, not after it.
        return "expires_at", math.nextafter(self._clock.now(), math.inf)

    def _prune(self, tx: Transaction, key: str, budget: int) -> int:
        """Delete descendants, leaves first, so that what remains still hangs on its dead ancestor.

        Returns:
            What is left of the budget; 0 means that the tree may not be empty yet.
        """
        path: list[Row[Token]] = []
        while budget > 0:
            below = path[-1].key if path else key
            children = tx.find(TOKENS, {"parent": below}, limit=1)
            if children:
                path.append(children[0])
            elif path:
                budget = self.book.leave(tx, below, budget)
                if budget < 1:
                    break
                self._delete(tx, path.pop())
                budget -= 1
            else:
                break
        return budget

    def _delete(self, tx: Transaction, row: Row[Token]) -> None:
        tx.delete(TOKENS, row)
        for kept in tx.find(CUBBYHOLES, {"token": row.key}):
            tx.delete(CUBBYHOLES, kept)
        held = tx.get(ACCESSORS, self._keys.accessor(row.value.accessor))
        if held is not None:
            tx.delete(ACCESSORS, held)
        waiting = tx.get(CONSENTS, row.key)
        if waiting is not None:
            tx.delete(CONSENTS, waiting)

    def _principal(self, key: str, token: Token, standing: Standing | None) -> Principal:
        return principal_of(key, token, standing, self.namespace_of(token))
