"""PolicyService: texts in, compiled rules out, correct across processes."""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from kms.clock import Clock
from kms.errors import invalid
from kms.namespaces import NamespaceTable, scoped, scoped_prefix, unscoped
from kms.operation import NO_VALUES, ROOT_NAMESPACE, Call, Capability, NamespaceRef, Principal
from kms.policy.auditor import AUDITOR, AUDITOR_TEXT, EVIDENCE
from kms.policy.builtin import (
    DEFAULT,
    DEFAULT_DOCUMENT,
    DEFAULT_TEXT,
    NOT_WRITABLE,
    OIDC_ACCESS,
    OIDC_DOCUMENT,
    RESPONSE_WRAPPING,
    ROOT,
    WRAPPING_DOCUMENT,
)
from kms.policy.compiler import Acl, compile_acl
from kms.policy.conditions import Context
from kms.policy.consent import CONTROLLABLE, within
from kms.policy.decide import Arguments, decide, deciding, has_sudo
from kms.policy.language import LANGUAGE_VERSION, parse
from kms.policy.model import ControlGroup, PolicyDocument, Rule
from kms.policy.names import canonical_name
from kms.policy.store import POLICIES, PolicyRow
from kms.policy.union import Decision
from kms.tables import Reader, Store, Transaction

_ACLS_KEPT = 1_024
_INTERNAL = {RESPONSE_WRAPPING: WRAPPING_DOCUMENT, OIDC_ACCESS: OIDC_DOCUMENT}
_BUILTIN = PolicyRow(
    name=DEFAULT,
    text=DEFAULT_TEXT,
    document=DEFAULT_DOCUMENT,
    language=LANGUAGE_VERSION,
    modified=0.0,
)


@dataclass(frozen=True, slots=True)
class Options:
    """What is stored beside a policy's text; None leaves what is there.

    Args:
        cas: the version that the write replaces, -1 for none, None for any.
        expiration: seconds since the epoch, 0 for never.
        wildcards: identity values may carry `*` and `+` into patterns.
        slashes: identity values may carry `/` into patterns.
    """

    cas: int | None = None
    cas_required: bool = False
    expiration: float = 0.0
    wildcards: bool = False
    slashes: bool = False


_PLAIN = Options()


class PolicyService:
    """One per process, safe to use from several threads. Reads are as of the last `Store.refresh`.

    Args:
        tags: of the server's environment, for conditions on them.
        namespaces: those that policies may belong to; None for the table of `store`.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        tags: Mapping[str, str] | None = None,
        namespaces: NamespaceTable | None = None,
    ) -> None:
        self._store = store
        self._namespaces = namespaces or NamespaceTable(store, lambda: True, lambda: None)
        self._clock = clock
        self._tags = dict(tags or {})
        self._acls: dict[tuple[tuple[str, ...], str], tuple[Mapping[str, str], Acl]] = {}
        self._guards: Acl | None = None
        self._epoch = 0
        self._lock = threading.Lock()
        store.watch(POLICIES, self)

    # -- deciding -----------------------------------------------------------------------------

    def decide(self, principal: Principal, call: Call) -> Decision:
        """Step (2) of the road: whether this principal may make this call."""
        acl, operation = self.acl_of(principal), call.operation
        evidence = acl.auditor and operation.name in EVIDENCE
        if acl.plain:  # nearly always; what no rule looks at is not gathered for each request
            return decide(acl, call.path, call.capability, sudo=operation.sudo, evidence=evidence)
        return decide(
            acl,
            call.path,
            call.capability,
            sudo=operation.sudo,
            evidence=evidence,
            arguments=Arguments(call.args, call.given, call.bound, call.extra, call.wrap_ttl),
            context=self.context(principal, call.peer),
        )

    def decide_within(self, principal: Principal, call: Call) -> Decision:
        """Whether a request may also use what lies at another path. Nothing can wait there for anybody's consent."""
        decision = self.decide(principal, call)
        if not decision.control:
            return decision
        return Decision(allowed=False, rule=decision.rule, why="consent")

    def context(self, principal: Principal, peer: str) -> Context:
        """What is known of a request besides what it asks for."""
        return Context(now=self._clock.now(), peer=peer, mfa=principal.mfa, tags=self._tags)

    def has_sudo(self, principal: Principal, path: str) -> bool:
        """Whether the principal's rule for `path` carries sudo. A rule with a condition on the network does not."""
        return has_sudo(self.acl_of(principal), path, self.context(principal, ""))

    def acl_of(self, principal: Principal) -> Acl:
        """The compiled policies of a principal, with its identity put into their templates.

        Raises:
            KmsError(DENIED): a value of the identity would change the meaning of a pattern (T-46).
        """
        return self.acl_for(principal.policies, principal.values)

    def acl_for(self, names: tuple[str, ...], values: Mapping[str, str] = NO_VALUES) -> Acl:
        """The compiled union of the named policies; names without a policy grant nothing.

        Args:
            names: canonical, as row keys: what belongs to a namespace has its id before the name.
            values: what templates stand for. What was compiled is kept for as long as the same object is handed in.
        """
        key = names, values.get("identity.entity.id", "")
        held = self._acls.get(key)
        if held is not None and held[0] is values and not self._outdated(held[1]):
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

    def _outdated(self, acl: Acl) -> bool:
        return bool(acl.valid_until) and acl.valid_until <= self._clock.now()

    def _compile(self, names: Iterable[str], values: Mapping[str, str]) -> Acl:
        reader, now = self._store.reader(), self._clock.now()
        documents: dict[str, PolicyDocument] = {}
        expirations: list[float] = []
        root = auditor = False
        for key in names:
            if key == AUDITOR:
                auditor = True  # no row can have this name, and no namespace has it
                continue
            if key == ROOT:
                root = True
                continue
            namespace_id, name = unscoped(key)
            namespace = self._namespaces.living(namespace_id)
            if namespace is None:
                continue
            if name in _INTERNAL:
                documents[key] = below(_INTERNAL[name], namespace)  # no row can have this name
                continue
            row = _find(reader, key, now)
            if row is not None:
                documents[key] = below(_document(row), namespace)
                expirations += [row.expiration] if row.expiration else []
        acl = compile_acl(documents, values, root=root, now=now)
        acl.auditor = auditor
        acl.valid_until = min(filter(None, (acl.valid_until, *expirations)), default=0.0)
        return acl

    def guards(self, path: str, capability: Capability) -> tuple[ControlGroup, ...]:
        """Whose consent any policy demands on a path, for callers that no policy binds."""
        held, before = self._guards, self._epoch
        if held is None or self._outdated(held):
            held = self._compile_guards()
            with self._lock:
                if self._epoch == before:
                    self._guards = held
        found = deciding(held, path, capability)
        decision = found.allow.get(capability) if found is not None else None
        return decision.control if decision is not None else ()

    def _compile_guards(self) -> Acl:
        now = self._clock.now()
        documents = {
            row.key: PolicyDocument(
                rules=tuple(
                    Rule(
                        path=namespace.path + rule.path,
                        grants=tuple(sorted(CONTROLLABLE)),
                        control_group=within(rule.control_group, namespace),
                        expiration=rule.expiration or row.value.expiration,
                    )
                    for rule in _document(row.value).rules
                    if rule.control_group is not None
                )
            )
            for row in self._store.reader().scan(POLICIES)
            if not _expired(row.value, now)
            and (namespace := self._namespaces.living(unscoped(row.key)[0])) is not None
        }
        return compile_acl(documents, now=now)

    def drop(self, key: str) -> None:
        """CacheListener: a policy changed; every set that holds it is compiled anew."""
        with self._lock:
            self._epoch += 1
            self._guards = None
            self._acls = {held: acl for held, acl in self._acls.items() if key not in held[0]}

    def clear(self) -> None:
        """CacheListener: forget everything."""
        with self._lock:
            self._epoch += 1
            self._guards = None
            self._acls = {}

    # -- texts ----------------------------------------------------------------------------------

    def get(self, name: str, namespace: NamespaceRef = ROOT_NAMESPACE) -> PolicyRow | None:
        """A policy by any spelling of its name; `root` exists and has no text. Raises KmsError(INVALID)."""
        name = canonical_name(name)
        if name == ROOT or (name == AUDITOR and not namespace.id):
            return PolicyRow(
                name=name,
                text=AUDITOR_TEXT if name == AUDITOR else "",
                document=PolicyDocument(),
                language=LANGUAGE_VERSION,
                modified=0.0,
                version=0,
            )
        return _find(self._store.reader(), scoped(namespace, name), self._clock.now())

    def exists(self, name: str, namespace: NamespaceRef = ROOT_NAMESPACE) -> bool:
        """Whether a canonical name has a policy, builtin or written."""
        if not namespace.id and name in {ROOT, AUDITOR}:
            return True
        return _find(self._store.reader(), scoped(namespace, name), self._clock.now()) is not None

    def list(self, namespace: NamespaceRef = ROOT_NAMESPACE, folder: str = "") -> list[str]:
        """Names, sorted; `root` last as the peer has it, and of the root namespace alone.

        Args:
            namespace: whose.
            folder: "" for all; else those below it, and never `root`.
        """
        keys = map(unscoped, self._store.reader().keys(POLICIES, scoped_prefix(namespace)))
        names = {name for owner, name in keys if owner == namespace.id} | {DEFAULT}
        if folder:
            below = canonical_name(folder) + "/"
            return sorted(name for name in names if name.startswith(below))
        return sorted(names) if namespace.id else [*sorted(names | {AUDITOR}), ROOT]

    def prepare(
        self, name: str, text: str, options: Options = _PLAIN, namespace: NamespaceRef = ROOT_NAMESPACE
    ) -> Prepared:
        """Read and check a policy; `text` is HCL or JSON, or either in base64. Only its result can be `put`.

        Apart from `put` because reading a long text takes a second, and no write lock waits for it.

        Raises:
            KmsError(INVALID): a name or text that is not allowed, or one that has expired already.
        """
        name = _writable(name, "update")
        if not text:
            raise invalid("'policy' parameter not supplied or empty")
        text = _unwrapped(text)
        document = replace(parse(text), wildcards=options.wildcards, slashes=options.slashes)
        row = PolicyRow(
            name=name,
            text=text,
            document=document,
            language=LANGUAGE_VERSION,
            modified=self._clock.now(),
            expiration=options.expiration,
            cas_required=options.cas_required,
        )
        return Prepared(row, options.cas, scoped(namespace, name))

    def put(self, tx: Transaction, prepared: Prepared) -> PolicyRow:
        """Write a policy that `prepare` made. In force, in every process, when `tx` has committed.

        Raises:
            KmsError(INVALID): it is not the version that the writer knew, or had to name.
        """
        held, wanted = tx.get(POLICIES, prepared.key), prepared.row
        expired = held is not None and _expired(held.value, wanted.modified)
        _compare(held.value if held is not None and not expired else None, prepared)
        if held is None:
            return tx.insert(POLICIES, prepared.key, wanted).value
        version = 1 if expired else held.value.version + 1
        return tx.replace(POLICIES, held, replace(wanted, version=version)).value

    def reap(self) -> int:
        """Delete the rows of policies that have expired; nothing waits for it. Returns how many."""
        now = self._clock.now()
        with self._store.transaction() as tx:
            gone = [row for row in tx.scan(POLICIES) if _expired(row.value, now)]
            for row in gone:
                tx.delete(POLICIES, row)
        return len(gone)

    def expired(self) -> bool:
        """Whether `reap` has anything to do."""
        now = self._clock.now()
        return any(_expired(row.value, now) for row in self._store.reader().scan(POLICIES))

    def delete(self, tx: Transaction, name: str, namespace: NamespaceRef = ROOT_NAMESPACE) -> None:
        """Delete a policy; one that is not there is no error. Raises KmsError(INVALID) for builtin ones."""
        name = _writable(name, "delete")
        if name == DEFAULT:
            raise invalid("cannot delete default policy")
        held = tx.get(POLICIES, scoped(namespace, name))
        if held is not None:
            tx.delete(POLICIES, held)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A policy that was read and checked, the version that it may replace, and the row key."""

    row: PolicyRow
    cas: int | None
    key: str


def _find(reader: Reader, key: str, now: float) -> PolicyRow | None:
    row = reader.get(POLICIES, key)
    if row is not None and not _expired(row.value, now):
        return row.value
    return _BUILTIN if unscoped(key)[1] == DEFAULT else None


def below(document: PolicyDocument, namespace: NamespaceRef) -> PolicyDocument:
    """The rules as they are meant: everything that they name lies in the namespace."""
    if not namespace.path and not any(rule.control_group for rule in document.rules):
        return document
    rules = tuple(
        replace(
            rule,
            path=namespace.path + rule.path,
            control_group=within(rule.control_group, namespace),
        )
        for rule in document.rules
    )
    return replace(document, rules=rules)


def _expired(row: PolicyRow, now: float) -> bool:
    return bool(row.expiration) and row.expiration <= now


def _compare(held: PolicyRow | None, prepared: Prepared) -> None:
    """Check-and-set, with the peer's texts."""
    cas = prepared.cas
    if cas is None:
        if prepared.row.cas_required or (held is not None and held.cas_required):
            raise invalid("check-and-set parameter required for this call")
        return
    version = held.version if held is not None else 0
    if cas == -1 and held is not None:
        raise invalid("check-and-set parameter set to -1 on existing entry")
    if cas not in {-1, version}:
        raise invalid(f"check-and-set parameter {cas} did not match the current version {version}")


def _document(row: PolicyRow) -> PolicyDocument:
    if row.language == LANGUAGE_VERSION:
        return row.document
    return replace(parse(row.text), wildcards=row.document.wildcards, slashes=row.document.slashes)


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
