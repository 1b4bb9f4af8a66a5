"""The vocabulary of the one road: operations, calls, results.

A service exports a table of `Operation`s; only `kms.app` registers them; `kms.pipeline` runs them.
What may differ between operations is declared here as data, so that a table test can walk it.
Handlers know neither door nor web framework: they get a `Call` and return `Result`, `Change` or
`External`, according to the declared effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from kms.errors import KmsError
from kms.tables import Transaction

T = TypeVar("T")


class Capability(StrEnum):
    """ACL capabilities of the Vault policy language."""

    CREATE = "create"
    READ = "read"
    UPDATE = "update"
    PATCH = "patch"
    DELETE = "delete"
    LIST = "list"


class Caller(StrEnum):
    """How the caller proves who it is."""

    TOKEN = "token"  # noqa: S105  (an enum member, not a credential)
    PROOF = "proof"  # a login: verified in identity, becomes a Principal
    PUBLIC = "public"


class Effect(StrEnum):
    """What an operation changes, and so how it is recorded (design: the audit log)."""

    NONE = "none"  # one record after the act, before the answer
    STATE = "state"  # one record in the commit that changes the state
    EXTERNAL = "external"  # intent on record, act, outcome with the state in a commit


class Evidence(StrEnum):
    """Whether each call leaves its own record."""

    EACH = "each"
    COUNTED = "counted"


class Release(StrEnum):
    """Whether the answer leaves at once or piece by piece."""

    WHOLE = "whole"
    STREAM = "stream"


class Runs(StrEnum):
    """Where it runs: on the event loop, or because it is slow (fsync, RSA, key generation) in a thread."""

    INLINE = "inline"  # microseconds, nothing that waits
    THREAD = "thread"  # waits, and is called often: a thread, without the web framework around it
    TOGETHER = (
        "together"  # as THREAD, but most of its time is a commit: one thread for all of them (kms.together)
    )
    POOL = "pool"  # management: through the web framework, which costs more than its work


class Needs(StrEnum):
    """The least state of the server in which the operation may run."""

    NOTHING = "nothing"  # health, init, unseal: answered even sealed, even while the log is stuck
    UNSEALED = "unsealed"


WHOLE_BODY = "*"
"""A field of this name receives all body fields as one map (documents: cubbyhole, key-value)."""


class Type(Enum):
    """Field types; doors coerce leniently, as the Vault API does."""

    STRING = "string"
    INT = "int"
    BOOL = "bool"
    SECONDS = "seconds"  # 3600, "3600", "1h30m", "1d" -> int
    STRINGS = "strings"  # list, or "a,b"
    MAP = "map"  # object, or ["k=v"]
    ITEMS = "items"  # list of objects (batch_input)
    ANY = "any"


class Record(Enum):
    """What the audit record keeps of a field's value."""

    OMIT = "omit"  # payloads and secrets
    CLEAR = "clear"  # names, versions, algorithms
    HMAC = "hmac"


@dataclass(frozen=True, slots=True)
class Field:
    """One argument of an operation. `default` applies when the client leaves it out."""

    name: str
    type: Type = Type.STRING
    default: Any = None
    required: bool = False
    record: Record = Record.OMIT


@dataclass(frozen=True, slots=True)
class NamespaceRef:
    """A tenant, as far as it travels with a call. `path` is full and ends in '/'; the root namespace has neither."""

    id: str
    path: str

    def covers(self, other: NamespaceRef) -> bool:
        """Whether the other one is this one, or lies below it."""
        return other.path.startswith(self.path)


ROOT_NAMESPACE = NamespaceRef(id="", path="")


NO_VALUES: Mapping[str, str] = MappingProxyType({})
"""Of nobody, and of tokens that no entity stands behind."""


class Stream(Protocol):
    """An answer without an end (`Release.STREAM`)."""

    def take(self) -> bytes | None:
        """What there is by now, b"" for nothing yet, None when it is over. Never waits; one caller at a time."""


NO_HEADERS: Mapping[str, tuple[list[str], bool]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking, after authentication. Holds no credential.

    Args:
        accessor: the token's accessor, "" for public callers.
        token_id: HMAC of the token, the row key; "" for public callers.
        policies: row keys: those of the token, and those that its entity adds at this moment. In the root namespace
            they are names, elsewhere "<namespace id>/<name>".
        root: whether the root policy is among them.
        values: what a template in a policy stands for: name -> value, of the entity.
        mfa: whether the login that it stems from was confirmed by a second factor.
        lease_owner: row key of the token that what the caller gets is owned by, "" for none.
        until: when the token ends, where its leases must end with it because it has no row; 0.0 for others.
        namespace: the token's; it is good there and below.
    """

    accessor: str = ""
    token_id: str = ""
    display_name: str = ""
    policies: tuple[str, ...] = ()
    entity_id: str = ""
    root: bool = False
    values: Mapping[str, str] = field(default_factory=lambda: NO_VALUES, compare=False)
    mfa: bool = False
    lease_owner: str = ""
    until: float = 0.0
    namespace: NamespaceRef = ROOT_NAMESPACE


ANONYMOUS = Principal(display_name="anonymous")


class LockoutRule(msgspec.Struct, frozen=True, kw_only=True):
    """When names of an auth mount are locked; 0 for the server's default. Seconds where it is a time."""

    lockout_threshold: int = 0
    lockout_duration: int = 0
    lockout_counter_reset: int = 0
    lockout_disable: bool = False


@dataclass(frozen=True, slots=True)
class MountRef:
    """Where a call landed: one mounted engine. `path` is full, the namespace's first, and ends in '/'.

    Args:
        token_type: of an auth mount: service, batch, default-service (the same as "") or default-batch.
        lockout: of an auth mount, where it is tuned.
        passes: names of request headers that its operations may see, in lower case.
        answers: names of response headers that its operations may set, in lower case.
    """

    id: str
    path: str
    type: str
    accessor: str
    default_lease_ttl: int = 0  # seconds, 0 = system default
    max_lease_ttl: int = 0
    token_type: str = ""
    lockout: LockoutRule | None = None
    namespace: NamespaceRef = ROOT_NAMESPACE
    passes: frozenset[str] = frozenset()
    answers: frozenset[str] = frozenset()

    @property
    def place(self) -> str:
        """The path as it is called inside its namespace."""
        return self.path[len(self.namespace.path) :]


@dataclass(slots=True)
class Call:
    """One request on the road. A door builds it; the pipeline fills in the principal.

    Args:
        path: the canonical path that policy sees, without a leading slash ("transit/encrypt/app"); in a namespace it
            begins with that one's ("team/transit/encrypt/app"), however the caller named it.
        args: coerced fields, path parameters among them; absent optional fields hold defaults.
        given: names of the fields that the client really sent (a config update touches only those).
        basic: an HTTP Basic credential as it was sent (base64), for dialects that know it; only what verifies
            it reads it.
        unverified_chain: DER certificates that the client presented, its own first. It has proved that it
            holds that one's key and nothing else; nobody has looked at who issued it.
        bound: those of `given` that are part of the path; rules about parameters do not count them.
        extra: what was sent besides, as it was sent: names that the operation does not know, and whole documents. Only
            rules about parameters look at it.
        credential: the presented token, if any; only identity reads it.
        facts: of a request that waited for consent: who consented and who carries it out, for the record.
        mfa: what the caller shows of second factors, `METHOD:CODE` each; only identity reads it.
        headers: what limits say about the call; the door sends them with its answer, a refusal too.
        idempotency_key: chosen by the caller for this request and its repetitions, "" for none.
        noted: the fields as records of this call have them, once the first was made.
        audited_headers: name -> values, and whether only their HMACs are kept; those that audit devices ask for.
    """

    operation: Operation
    path: str
    mount: MountRef
    args: dict[str, Any]
    request_id: str
    peer: str
    door: str
    credential: str = ""
    given: frozenset[str] = frozenset()
    bound: frozenset[str] = frozenset()
    extra: Mapping[str, Any] = field(default_factory=dict)
    principal: Principal = ANONYMOUS
    capability: Capability = Capability.READ  # as decided: create and update are different
    generation: int = 0
    now: float = 0.0
    wrap_ttl: int = 0
    unverified_chain: tuple[bytes, ...] = ()
    basic: str = ""
    idempotency_key: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    headers: tuple[tuple[str, str], ...] = ()
    mfa: tuple[str, ...] = ()
    audited_headers: Mapping[str, tuple[list[str], bool]] = field(default_factory=lambda: NO_HEADERS)
    noted: dict[str, Any] | None = None
    namespace: NamespaceRef = ROOT_NAMESPACE

    @property
    def place(self) -> str:
        """The path as it is called inside its namespace."""
        return self.path[len(self.namespace.path) :]


@dataclass(frozen=True, slots=True)
class Leased:
    """The lease of what an operation answers."""

    id: str
    seconds: int
    renewable: bool


@dataclass(frozen=True, slots=True)
class Result:
    """What an operation answers.

    Args:
        data: the `data` object of the answer, or None for "nothing" (204 in the Vault dialect).
        auth: the `auth` object of a login-like answer.
        items: how many things were done (batch), for the record.
        subject: public facts for the audit record: key id, version, serial.
        partial: some items of a batch failed; the data says which. Doors choose the code.
        partial_status: the code that the caller asked for in that case; None leaves it to the door.
        raw: bytes and content type, for answers that are documents (CRL, PEM).
        wrap: where the real answer waits instead: the `wrap_info` object. All else is empty then.
        status: code of the answer, in dialects where the operation chooses it (ACME).
        headers: of the answer, in such dialects.
        modified: since when a document is what it is, in whole seconds; 0 for what is always sent.
        stream: instead of all else, an answer that goes on. Of operations that are released as a stream only.
        refusal: what the caller is told instead, though what was changed counts: a failed try. Of a `Change` only.
        lease: what the caller can renew and give back, where the answer is for a time.
    """

    data: Mapping[str, Any] | None = None
    auth: Mapping[str, Any] | None = None
    items: int = 1
    warnings: tuple[str, ...] = ()
    subject: Mapping[str, str | int] = field(default_factory=dict)
    partial: bool = False
    partial_status: int | None = None
    raw: tuple[bytes, str] | None = None
    wrap: Mapping[str, Any] | None = None
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    lease: Leased | None = None
    refusal: KmsError | None = None
    modified: int = 0
    stream: Stream | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """Effect state: `write` runs inside the transaction that also stores the record.

    Args:
        after: runs once the commit is durable and before the answer leaves; for what other processes
            must notice at once (the seal epoch). Must not fail.
    """

    write: Callable[[Transaction], Result]
    after: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class External(Generic[T]):
    """Effect external: something outside the database happens between an intent and an outcome on record.

    Args:
        intent: public facts of what is about to happen; enough to find out later whether it did.
        begin: writes the planned state, in the commit of the intent record. None: nothing is planned, and the
            intent is a record of the log alone. That survives the death of this process, but perhaps not a
            power cut, so it is only for an act that leaves nothing outside this process before its
            outcome is on record: a signature, never an object in the HSM.
        perform: the act (HSM object, CA signature); no transaction is open.
        conclude: writes the new state, in the commit of the outcome record.
        abandon: marks the planned state as failed, in the commit of the failure record.
        after: what must follow the outcome before the answer leaves.
        answer: instead of `conclude`, where `begin` is None and the outcome writes no row either.
    """

    intent: Mapping[str, str | int]
    begin: Callable[[Transaction], None] | None
    perform: Callable[[], T]
    conclude: Callable[[Transaction, T], Result]
    abandon: Callable[[Transaction, KmsError], None]
    after: Callable[[], None] | None = None
    answer: Callable[[T], Result] | None = None


Outcome = Result | Change | External[Any]


@dataclass(frozen=True)
class Operation:
    """One thing that the service can do, declared.

    Args:
        name: "<engine>.<verb>", unique; what reports and metrics call it.
        capability: what policy asks for. UPDATE with `exists` becomes CREATE when the thing is not
            there yet.
        act: the handler; returns the type that `effect` names, or a lesser one (External > Change >
            Result) where this call turned out to change less: a create of what exists, an encrypt
            that did not have to make its key. The record follows the type that was returned.
        exists: whether the resource exists; None when create and update do not differ.
        sudo: the ACL rule must carry sudo as well.
        any_token: every token may call it, whatever its policies; the handler shows each caller only
            what its policies reach.
        resolve: effect external only: given a stored intent that has no outcome, find out whether
            the act happened, and finish or undo it. Called at start.
        no_credential: what a caller is told (400) whose credential is not in force, instead of the usual 403;
            for operations whose subject the credential itself may be.
        of_itself: it concerns the caller's own token alone, so it is decided on in that one's namespace, whichever
            was asked, as on the peer.
        belongs: the namespace that the call is decided on in, where what it names tells: a lease's own.
        inline_if: runs inline only: False sends this call to the pool (a large batch, a key that is
            not in memory yet). Looks at memory only, so it is cheap before authentication too.
    """

    name: str
    capability: Capability
    act: Callable[[Call], Outcome]
    effect: Effect = Effect.NONE
    exists: Callable[[Call], bool] | None = None
    caller: Caller = Caller.TOKEN
    evidence: Evidence = Evidence.EACH
    release: Release = Release.WHOLE
    runs: Runs = Runs.POOL
    needs: Needs = Needs.UNSEALED
    sudo: bool = False
    any_token: bool = False
    of_itself: bool = False
    belongs: Callable[[Call], NamespaceRef] | None = None
    no_credential: str = ""
    fields: tuple[Field, ...] = ()
    resolve: Callable[[Mapping[str, str | int]], External[Any] | None] | None = None
    inline_if: Callable[[Call], bool] | None = None
