"""PolicyService: texts in, compiled rules out, correct across processes."""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from kms.clock import Clock
from kms.errors import invalid
from kms.operation import NO_VALUES, Call, Principal
from kms.policy.builtin import (
    DEFAULT,
    DEFAULT_DOCUMENT,
    DEFAULT_TEXT,
    NOT_WRITABLE,
    RESPONSE_WRAPPING,
    ROOT,
    WRAPPING_DOCUMENT,
)
from kms.policy.compiler import Acl, Decision, compile_acl
from kms.policy.decide import Arguments, decide, has_sudo
from kms.policy.language import LANGUAGE_VERSION, parse
from kms.policy.model import PolicyDocument
from kms.policy.names import canonical_name
from kms.policy.store import POLICIES, PolicyRow
from kms.tables import Reader, Store, Transaction

_ACLS_KEPT = 1_024
_BUILTIN = PolicyRow(
    name=DEFAULT,
    text=DEFAULT_TEXT,
    document=DEFAULT_DOCUMENT,
    language=LANGUAGE_VERSION,
    modified=0.0,
)


class PolicyService:
    """One per process, safe to use from several threads. Reads are as of the last `Store.refresh`."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._acls: dict[tuple[tuple[str, ...], str], tuple[Mapping[str, str], Acl]] = {}
        self._epoch = 0
        self._lock = threading.Lock()
        store.watch(POLICIES, self)

    # -- deciding -----------------------------------------------------------------------------

    def decide(self, principal: Principal, call: Call) -> Decision:
        """Step (2) of the road: whether this principal may make this call."""
        acl = self.acl_of(principal)
        arguments = Arguments(call.args, call.given, call.bound, call.wrap_ttl)
        return decide(acl, call.path, call.capability, sudo=call.operation.sudo, arguments=arguments)

    def has_sudo(self, principal: Principal, path: str) -> bool:
        """Whether the principal's rule for `path` carries sudo."""
        return has_sudo(self.acl_of(principal), path)

    def acl_of(self, principal: Principal) -> Acl:
        """The compiled policies of a principal, with its identity put into their templates.

        Raises:
            KmsError(DENIED): a value of the identity would change the meaning of a pattern (T-46).
        """
        return self.acl_for(principal.policies, principal.values)

    def acl_for(self, names: tuple[str, ...], values: Mapping[str, str] = NO_VALUES) -> Acl:
        """The compiled union of the named policies; names without a policy grant nothing.

        Args:
            names: canonical.
            values: what templates stand for. What was compiled is kept for as long as the same object is handed in.
        """
        key = names, values.get("identity.entity.id", "")
        held = self._acls.get(key)
        if held is not None and held[0] is values:
            return held[1]
        # A change announced while we read must win over what we read: remember the epoch first.
        before = self._epoch
        acl = self._compile(names, values)
        with self._lock:
            if self._epoch == before:
                if len(self._acls) >= _ACLS_KEPT:
                    self._acls.pop(next(iter(self._acls)))
                self._acls[key] = values, acl
        return acl

    def _compile(self, names: Iterable[str], values: Mapping[str, str]) -> Acl:
        reader = self._store.reader()
        documents: dict[str, PolicyDocument] = {}
        root = False
        for name in names:
            if name == ROOT:
                root = True
                continue
            if name == RESPONSE_WRAPPING:
                documents[name] = WRAPPING_DOCUMENT  # no row can have this name
                continue
            row = _find(reader, name)
            if row is not None:
                documents[name] = _document(row)
        return compile_acl(documents, values, root=root)

    def drop(self, key: str) -> None:
        """CacheListener: a policy changed; every set that holds it is compiled anew."""
        with self._lock:
            self._epoch += 1
            self._acls = {held: acl for held, acl in self._acls.items() if key not in held[0]}

    def clear(self) -> None:
        """CacheListener: forget everything."""
        with self._lock:
            self._epoch += 1
            self._acls = {}

    # -- texts ----------------------------------------------------------------------------------

    def get(self, name: str) -> PolicyRow | None:
        """A policy by any spelling of its name; `root` exists and has no text. Raises KmsError(INVALID)."""
        name = canonical_name(name)
        if name == ROOT:
            return PolicyRow(
                name=ROOT,
                text="",
                document=PolicyDocument(),
                language=LANGUAGE_VERSION,
                modified=0.0,
                version=0,
            )
        return _find(self._store.reader(), name)

    def exists(self, name: str) -> bool:
        """Whether a canonical name has a policy, builtin or written."""
        return name == ROOT or _find(self._store.reader(), name) is not None

    def list(self) -> list[str]:
        """All names, sorted, `root` last as the peer has it."""
        names = set(self._store.reader().keys(POLICIES)) | {DEFAULT}
        return [*sorted(names), ROOT]

    def prepare(self, name: str, text: str) -> PolicyRow:
        """Read and check a policy; `text` is HCL or JSON, or either in base64. Only its result can be `put`.

        Apart from `put` because reading a long text takes a second, and no write lock waits for it.

        Raises:
            KmsError(INVALID): a name or text that is not allowed.
        """
        name = _writable(name, "update")
        if not text:
            raise invalid("'policy' parameter not supplied or empty")
        text = _unwrapped(text)
        return PolicyRow(
            name=name,
            text=text,
            document=parse(text),
            language=LANGUAGE_VERSION,
            modified=self._clock.now(),
        )

    def put(self, tx: Transaction, prepared: PolicyRow) -> PolicyRow:
        """Write a policy that `prepare` made. In force, in every process, when `tx` has committed."""
        held = tx.get(POLICIES, prepared.name)
        if held is None:
            return tx.insert(POLICIES, prepared.name, prepared).value
        return tx.replace(POLICIES, held, replace(prepared, version=held.value.version + 1)).value

    def delete(self, tx: Transaction, name: str) -> None:
        """Delete a policy; one that is not there is no error. Raises KmsError(INVALID) for builtin ones."""
        name = _writable(name, "delete")
        if name == DEFAULT:
            raise invalid("cannot delete default policy")
        held = tx.get(POLICIES, name)
        if held is not None:
            tx.delete(POLICIES, held)


def _find(reader: Reader, name: str) -> PolicyRow | None:
    row = reader.get(POLICIES, name)
    if row is not None:
        return row.value
    return _BUILTIN if name == DEFAULT else None


def _document(row: PolicyRow) -> PolicyDocument:
    return row.document if row.language == LANGUAGE_VERSION else parse(row.text)


def _writable(name: str, verb: str) -> str:
    name = canonical_name(name)
    if name in NOT_WRITABLE:
        raise invalid(f'cannot {verb} "{name}" policy')
    return name


def _unwrapped(text: str) -> str:
    # No policy text is itself base64: it holds a quote or a brace.
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return text
