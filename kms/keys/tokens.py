"""Which HSM tokens serve. While there is one, nothing is written down and the token has no name.

Rows are not sealed, as they are read before the keyring is open. Who changes them can make a server use a token that its
configuration names; that one has no roots which the keyring is sealed to, unless it was enrolled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import msgspec

from kms.clock import Clock
from kms.config import HsmSection
from kms.errors import ErrorKind, KmsError, invalid
from kms.hsm import Hsm, Ours, open_group
from kms.hsm.profiles import configured
from kms.ids import CkaId
from kms.keys.lost import Losses, open_knowing
from kms.keys.roots import ACTIVE, RETIRED, ROOTS
from kms.tables import Reader, Store, Table, Transaction

ENROLLING, ENROLLED, REMOVED = "enrolling", "enrolled", "removed"
OWN_KEYS: Final = "own-keys"
SAME_KEYS: Final = "same-keys"


class HsmToken(msgspec.Struct, frozen=True, kw_only=True):
    """One token. Key: its name in the configuration.

    Args:
        relation: "own-keys" or "same-keys"; the first token's is "own-keys".
        serial: what it said of itself when it was enrolled.
        since: of the state, Unix seconds.
        terms: when keyring terms or roots were last made for it, Unix seconds.
    """

    state: str
    relation: str
    serial: str
    since: float
    terms: float = 0.0


HSM_TOKENS: Final = Table("hsm-token", "hsm_tokens", HsmToken, sealed=False, cached=True)


class Enrolled:
    """The names of the tokens that may be used; in memory until one changes.

    Args:
        first: the name of the first token of the configuration, which serves until another is enrolled.
    """

    def __init__(self, store: Store, first: str) -> None:
        self._store = store
        self._first = first
        self._known: frozenset[str] | None = None
        self._changes = 0
        self._lock = threading.Lock()
        store.watch(HSM_TOKENS, self)

    def drop(self, _key: str) -> None:
        """A token changed (kms.tables.CacheListener)."""
        self.clear()

    def clear(self) -> None:
        """Look again (kms.tables.CacheListener)."""
        with self._lock:
            self._known = None
            self._changes += 1

    def names(self) -> frozenset[str]:
        """Those that are enrolled, or the first while no row says anything."""
        known = self._known
        if known is None:
            changes = self._changes
            known = enrolled(self._store.reader()) or frozenset({self._first})
            with self._lock:
                if changes == self._changes:
                    self._known = known
        return known


def enrolled(reader: Reader) -> frozenset[str]:
    """The names of the enrolled tokens; empty while there has only been one."""
    return frozenset(row.key for row in reader.scan(HSM_TOKENS) if row.value.state == ENROLLED)


def open_tokens(
    section: HsmSection,
    clock: Clock,
    store: Store,
    losses: Losses,
    strange: Callable[[], KmsError],
) -> Hsm:
    """Open every token of the configuration that is there. Another token under the label of one counts as away.

    Args:
        section: of the configuration.
        clock: of the process.
        store: may be locked.
        losses: refuses keys that are known to be lost.
        strange: what to say of a token that holds none of the roots that it should.

    Raises:
        KmsError(HSM_UNAVAILABLE): none is. KmsError(INVALID): an enrolled one is not in the configuration.
    """
    titles = [token.title for token in section.tokens]
    for name in enrolled(store.reader()):
        if name not in titles:
            raise invalid(
                f'the HSM token "{name}" is enrolled, but the configuration does not name it: add it, or remove it '
                "with DELETE sys/hsm/tokens/NAME while it is in the configuration"
            )

    def ours(name: str) -> Ours:
        return Ours(lambda: _roots_of(store.reader(), name, titles[0]), strange)

    if len(titles) == 1:
        return open_knowing(configured(section), clock, losses, ours(titles[0]))
    configs = [(token.title, configured(token)) for token in section.tokens]
    return open_group(configs, clock, Enrolled(store, titles[0]), losses.refuse, ours)


def _roots_of(reader: Reader, name: str, first: str) -> list[CkaId]:
    """Objects of which this token holds at least one, the newest first; none for a token that does not serve yet."""
    row = reader.get(HSM_TOKENS, name)
    if row is not None and row.value.state != ENROLLED:
        return []
    homes = {name, ""} if name == first else {name}
    if row is not None and row.value.relation == SAME_KEYS:
        homes |= {first, ""}
    held = [
        each
        for each in reader.scan(ROOTS)
        if each.value.home in homes
        and each.value.state in (ACTIVE, RETIRED)
        and not each.value.lacks
        and not each.value.sealed
    ]
    held.sort(key=lambda each: each.value.version, reverse=True)
    return [CkaId(bytes.fromhex(each.key)) for each in held]


def name_first(tx: Transaction, first: str, serial: str, now: float) -> None:
    """From now on the first token has a name too, and its roots say so. Nothing when it has."""
    if any(row.value.state != REMOVED for row in tx.scan(HSM_TOKENS)):
        return
    put_token(tx, first, HsmToken(state=ENROLLED, relation=OWN_KEYS, serial=serial, since=now))
    for root in tx.scan(ROOTS):
        if not root.value.home:
            tx.replace(ROOTS, root, msgspec.structs.replace(root.value, home=first))


def put_token(tx: Transaction, name: str, value: HsmToken) -> None:
    """The row of a token, new or in the place of what it was before."""
    row = tx.get(HSM_TOKENS, name)
    if row is None:
        tx.insert(HSM_TOKENS, name, value)
    else:
        tx.replace(HSM_TOKENS, row, value)


def forget_tokens(tx: Transaction, now: float) -> None:
    """All tokens are lost: the one that is recovered to serves alone and has no name again."""
    for row in tx.scan(HSM_TOKENS):
        if row.value.state != REMOVED:
            tx.replace(HSM_TOKENS, row, msgspec.structs.replace(row.value, state=REMOVED, since=now))


def copies_of(reader: Reader) -> list[str]:
    """The names of the copies that serve."""
    rows = reader.scan(HSM_TOKENS)
    return [row.key for row in rows if row.value.state == ENROLLED and row.value.relation == SAME_KEYS]


def lacking(hsm: Hsm, reader: Reader, roots: list[CkaId]) -> tuple[str, ...]:
    """The names of the copies that do not hold all of these objects yet, or do not answer."""
    return tuple(name for name in copies_of(reader) if not _holds(hsm.at(name), roots))


def _holds(copy: Hsm, roots: list[CkaId]) -> bool:
    try:
        return all(copy.exists(root) for root in roots)
    except KmsError as error:
        if error.kind is not ErrorKind.HSM_UNAVAILABLE:
            raise
        return False
