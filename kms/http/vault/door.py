"""The Vault door: a request in, a `Call` down the road, a finished answer out.

    (1) canonical path, verb            before anything else, no body needed; the namespace of a header and that
                                        of a path become one path here
    (2) mount and route -> operation    what does not exist is an operation too (ports.NO_ROUTE)
    (3) headers, body, fields           bounded, coerced once
    (4) the pipeline                    authenticates, decides, acts, records
    (5) render                          envelope, codes, receipt

`route` is (1) and (2), `prepare` (3), `run` (4) and (5): between them the server decides whether the call
may run on its event loop. Refusals (KmsError) come back as answers; an unexpected exception leaves these
three, and whoever drives them contains it and asks `crashed` for the answer (`handle` does all that).
The door has no rule of its own and keeps no state between requests.

Each hot request passes here, so what is built per request is built once and without ceremony.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from kms.clock import Clock, SystemClock
from kms.devices import Devices
from kms.errors import ErrorKind, KmsError, invalid, not_found
from kms.http.chains import Chain, ClientChains
from kms.http.ports import NO_ROUTE, App
from kms.http.vault import body as bodies
from kms.http.vault.canonical import PREFIX, WELL_KNOWN, Redirect, canonical, query_fields, wants_list
from kms.http.vault.coerce import wrap_seconds
from kms.http.vault.conditional import SINCE, conditional, since
from kms.http.vault.errors import OPERATIONAL, multi, nothing, render_error
from kms.http.vault.idempotency import idempotency_key
from kms.http.vault.render import render
from kms.http.vault.route import Rendered, Route
from kms.http.vault.router import Match, Router
from kms.ids import new_event_id
from kms.inflight import InFlight
from kms.operation import (
    ROOT_NAMESPACE,
    Call,
    Caller,
    Capability,
    MountRef,
    NamespaceRef,
    Needs,
    Operation,
    Runs,
)
from kms.oplog import Contained, OperatorLog

_CAPABILITIES = {
    "GET": Capability.READ,
    "LIST": Capability.LIST,
    "POST": Capability.UPDATE,
    "DELETE": Capability.DELETE,
    "PATCH": Capability.PATCH,
}
_METHODS = {name: name for name in _CAPABILITIES} | {"PUT": "POST", "HEAD": "GET"}
_NO_MOUNT = MountRef(id="", path="", type="", accessor="")
OPAQUE = b"-"
_NAMESPACES = frozenset({b"", b"/", b"root", b"root/"})

_PLAIN = {b"x-vault-namespace": "namespace", b"x-vault-wrap-ttl": "wrap_ttl"}

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(slots=True)
class Routed:
    """A request whose operation is known. Not changed after it is made."""

    verb: str
    path: str
    mount: MountRef
    operation: Operation
    match: Match | None
    reason: str  # why nothing matched: "mount", "path", "verb"; "" when it did
    query: dict[str, str]
    namespace: NamespaceRef = ROOT_NAMESPACE
    headed: bool = False  # a header that names a namespace is part of the path
    since: int = 0  # If-Modified-Since, of a mount that passes it

    @property
    def inline(self) -> bool:
        """Whether the operation may run on an event loop, whatever its arguments."""
        return self.operation.runs is Runs.INLINE


@dataclass(slots=True)
class Prepared:
    """A call that is ready for the pipeline. Not changed after it is made."""

    routed: Routed
    call: Call
    warnings: tuple[str, ...]

    @property
    def inline(self) -> bool:
        """Whether this very call may run on an event loop."""
        operation = self.call.operation
        if operation.runs is not Runs.INLINE or self.call.wrap_ttl:  # putting an answer away is a commit
            return False
        return operation.inline_if is None or operation.inline_if(self.call)


@dataclass(slots=True)
class _Asked:
    """The headers that matter."""

    token: str = ""
    basic: str = ""
    content_type: str = ""
    namespace: bytes = b""
    wrap_ttl: bytes = b""
    idempotency_key: bytes = b""
    mfa: tuple[str, ...] = ()


class Door:
    """The Vault API of one process. Safe to use from several threads."""

    def __init__(
        self,
        app: App,
        log: OperatorLog,
        name: str = "vault",
        clock: Clock | None = None,
        chains: ClientChains | None = None,
        well_known: Callable[[str], str | None] | None = None,
        *,
        inflight: InFlight | None = None,
        devices: Devices | None = None,
    ) -> None:
        self._app = app
        self._namespaces = app.namespaces
        self._log = log
        self._name = name
        self._clock = clock or SystemClock()
        self._chains = chains or ClientChains()
        self._aliases = well_known
        self._inflight = inflight
        self._devices = devices
        self._noted: dict[ErrorKind, int] = {}
        self._routers = {engine: Router(routes, app.registry) for engine, routes in app.routes.items()}
        # Nearly always one: the slash, the literal before the opaque end, and a slash.
        self._opaque = {
            b"/%b/" % route.pattern.split("/")[-2].encode("ascii")
            for routes in app.routes.values()
            for route in routes
            if route.opaque
        }
        if NO_ROUTE not in app.registry:
            raise ValueError(f"the registry has no operation {NO_ROUTE}")
        self._no_route = {
            verb: dataclasses.replace(app.registry[NO_ROUTE], capability=capability)
            for verb, capability in _CAPABILITIES.items()
        }

    def route(
        self, method: str, raw_path: bytes, query: bytes = b"", headers: Headers = ()
    ) -> Routed | Rendered:
        """Steps 1 and 2."""
        try:
            return self._route(method, raw_path, query, headers)
        except KmsError as error:
            self._note(error, self._clock.now())
            return render_error(error)

    def prepare(
        self, routed: Routed, headers: Headers, body: bytes, peer: str, chain: Chain = ()
    ) -> Prepared | Rendered:
        """Step 3. `chain` is what the peer presented in its TLS handshake."""
        call = Call(
            operation=routed.operation,
            path=routed.path,
            mount=routed.mount,
            args={},
            request_id=new_event_id(self._clock.now()),
            peer=peer,
            door=self._name,
            namespace=routed.namespace,
        )
        try:
            call.unverified_chain = self._chains.pick(peer, headers, chain)
            return Prepared(routed, call, self._fill(routed, headers, body, call))
        except KmsError as error:
            return _refusal(routed, error)

    def run(self, prepared: Prepared) -> Rendered:
        """Steps 4 and 5."""
        try:
            answer = self._run(prepared)
        except KmsError as error:
            self._note(error, prepared.call.now, request_id=prepared.call.request_id)
            answer = self._refused(prepared.routed, error)
        if prepared.call.headers:
            answer.headers = (*answer.headers, *prepared.call.headers)
        return answer

    def _note(self, error: KmsError, now: float, **known: str) -> None:
        """Tell the operator what is theirs to mend; an outage makes one line a second and kind, not one a request."""
        if error.kind in OPERATIONAL and self._noted.get(error.kind) != int(now):
            self._noted[error.kind] = int(now)
            self._log.failure("request_failed", error, **known, kind=error.kind.value)

    def crashed(self, prepared: Prepared | None = None) -> Rendered:
        """The answer to a request that ended in an unexpected exception, which the log has already.

        If the call had reached the pipeline, the audit log gets its record too.
        """
        if prepared is None:
            return render_error(KmsError(ErrorKind.INTERNAL, "internal error"))
        request_id = prepared.call.request_id
        with Contained(self._log, "crash_not_recorded", request_id=request_id):
            self._app.pipeline.crashed(prepared.call)
        detail = f"internal error; the operator log has it under request id {request_id}"
        return _refusal(prepared.routed, KmsError(ErrorKind.INTERNAL, detail))

    def contained(self, prepared: Prepared) -> Rendered:
        """`run`, never raising."""
        call = prepared.call
        place = -1
        if self._inflight is not None:
            verb = prepared.routed.verb
            place = self._inflight.begin(
                call.request_id, verb, call.peer, f"/v1/{call.path}", self._clock.now()
            )
        with Contained(self._log, "request_crashed", request_id=call.request_id):
            answer = self.run(prepared)
            self._end(place)
            return answer
        self._end(place)
        return self.crashed(prepared)

    @property
    def waits(self) -> bool:
        """Whether calls wait for an audit device, so that none may run on an event loop."""
        return self._devices is not None and self._devices.waits

    def _end(self, place: int) -> None:
        if self._inflight is not None:
            self._inflight.end(place)

    def handle(
        self, method: str, raw_path: bytes, query: bytes, headers: Headers, body: bytes, peer: str
    ) -> Rendered:
        """All steps; never raises."""
        with Contained(self._log, "request_not_parsed"):
            routed = self.route(method, raw_path, query, headers)
            prepared = routed if isinstance(routed, Rendered) else self.prepare(routed, headers, body, peer)
            return prepared if isinstance(prepared, Rendered) else self.contained(prepared)
        return self.crashed()

    def _route(self, method: str, raw_path: bytes, query: bytes, headers: Headers) -> Routed | Rendered:
        self._app.refresh()
        # Who has no namespaces does not look for their header here; one that names some is refused in step 3.
        under = "" if self._namespaces.none else self._under(raw_path, headers)
        for marker in self._opaque:
            if (
                marker in raw_path
                and (opaque := self._route_opaque(under, method, raw_path, marker)) is not None
            ):
                return opaque
        path = self._well_known(raw_path) if raw_path.startswith(WELL_KNOWN) else canonical(raw_path)
        if path is None:
            return nothing(404)
        if isinstance(path, Redirect):
            suffix = "?" + query.decode("latin-1") if query else ""
            return Rendered(307, b"", "text/html; charset=utf-8", (("Location", path.location + suffix),))
        verb = _METHODS.get(method)
        if verb is None:
            return nothing(405)
        fields = query_fields(query)
        if verb == "GET" and "list" in fields:
            listing = wants_list(fields)
            if isinstance(listing, Rendered):
                return listing
            verb = "LIST" if listing else verb
        if verb == "LIST" and not path.endswith("/"):
            path += "/"  # policies name folders with the slash; one spelling for both requests
        elif path.endswith("/") and verb in ("POST", "PATCH"):
            raise invalid("cannot write to a path ending in '/'")
        return self._resolve(method, verb, under, path, fields)

    def _under(self, raw_path: bytes, headers: Headers) -> str:
        """The path of the namespace that a header names."""
        header = _namespace_header(headers)
        if header in _NAMESPACES or not self._namespaces.some or raw_path.startswith(WELL_KNOWN):
            return ""  # what is well known is one place of the whole server
        return self._namespaces.named(header.decode("latin-1")).path

    def _well_known(self, raw_path: bytes) -> str | None:
        """The canonical path that a well-known one (RFC 8615) stands for: policy and log see no second spelling."""
        path = canonical(PREFIX + raw_path[len(WELL_KNOWN) :])
        if self._aliases is None or not isinstance(path, str):
            return None
        return self._aliases(path)

    def _route_opaque(self, under: str, method: str, raw_path: bytes, marker: bytes) -> Routed | None:
        """The request, if it is for a route with an opaque end that begins at `marker`."""
        before, _, rest = raw_path.partition(marker)
        path = canonical(before + marker + OPAQUE)
        if not isinstance(path, str) or method not in ("GET", "HEAD"):
            return None
        routed = self._resolve(method, "GET", under, path, {})
        if isinstance(routed, Rendered) or routed.match is None or not routed.match.compiled.route.opaque:
            return None
        routed.match = Match(routed.match.compiled, (*routed.match.parameters[:-1], rest.decode("latin-1")))
        return routed

    def _resolve(
        self, method: str, verb: str, under: str, path: str, fields: dict[str, str]
    ) -> Routed | Rendered:
        headed, path = bool(under), under + path
        found = self._app.mounts.resolve(path)
        if found is None:
            within = self._namespaces.of(path) if self._namespaces.some else ROOT_NAMESPACE
            return Routed(
                verb, path, _NO_MOUNT, self._no_route[verb], None, "mount", fields, within, headed=headed
            )
        mount, rest = found
        router = self._routers.get(mount.type)
        match = router.match(verb, rest) if router else "path"
        if method == "HEAD" and router is not None and not isinstance(match, str):
            head = router.match(method, rest)  # few resources answer HEAD otherwise than GET
            match = match if isinstance(head, str) else head
        if isinstance(match, str):
            return Routed(
                verb, path, mount, self._no_route[verb], None, match, fields, mount.namespace, headed=headed
            )
        operation = match.compiled.operation
        if method == "HEAD" and operation.caller is not Caller.PUBLIC:
            return nothing(405)
        return Routed(verb, path, mount, operation, match, "", fields, mount.namespace, headed=headed)

    def _fill(self, routed: Routed, headers: Headers, body: bytes, call: Call) -> tuple[str, ...]:
        asked = _read(headers)
        call.credential, call.basic, call.mfa = asked.token, asked.basic, asked.mfa
        if self._devices is not None and (wanted := self._devices.headers):
            call.audited_headers = _audited(headers, wanted)
        if asked.namespace not in _NAMESPACES and not routed.headed:
            self._demand_none(routed, asked.namespace)
        if SINCE in routed.mount.passes:
            routed.since = since(headers)
        if asked.wrap_ttl:
            call.wrap_ttl = wrap_seconds(asked.wrap_ttl)
        if asked.idempotency_key:
            call.idempotency_key = idempotency_key(asked.idempotency_key)
        if routed.verb == "PATCH":
            bodies.check_patch(asked.content_type)
        if routed.match is None:
            call.args = {"reason": routed.reason, "path": routed.path}
            return ()
        writes = routed.verb in ("POST", "PATCH")
        given = _given(routed.match.compiled.route, body, asked) if writes else routed.query
        plan = routed.match.compiled.plan
        bound = routed.match.arguments()
        call.bound = frozenset(bound)
        call.args, call.given, warnings = plan.arguments(given, bound)
        if len(given) > len(call.given) - len(call.bound):
            known = call.given - call.bound
            call.extra = {name: value for name, value in given.items() if name not in known}
        return warnings

    def _demand_none(self, routed: Routed, header: bytes) -> None:
        """A namespace that no path was made of is unknown: there are none, or nobody can know."""
        if routed.operation.needs is Needs.NOTHING and not self._namespaces.some:
            return  # what tells that the server is sealed is told to everybody
        self._namespaces.named(header.decode("latin-1"))
        raise not_found("namespace not found")

    def _run(self, prepared: Prepared) -> Rendered:
        call, match = prepared.call, prepared.routed.match
        result, receipt = self._app.pipeline.run(call)
        if match is None:
            raise KmsError(ErrorKind.NO_ROUTE, "")
        answer = render(match.compiled.route, result, call.request_id, prepared.warnings)
        if result.modified:
            answer = conditional(answer, result.modified, prepared.routed.since, call.mount)
        if receipt is not None:
            answer.headers = _receipted(answer.headers, receipt.header())
        return answer

    def _refused(self, routed: Routed, error: KmsError) -> Rendered:
        if routed.reason and error.kind in (ErrorKind.NO_ROUTE, ErrorKind.UNSUPPORTED):
            error = _no_route_error(routed)
        answer = _refusal(routed, error)
        receipt = getattr(error, "receipt", None)
        if receipt is not None:
            answer.headers = _receipted(answer.headers, receipt.header())
        return answer


def _refusal(routed: Routed, error: KmsError) -> Rendered:
    """In the dialect of the route."""
    refuse = routed.match.compiled.route.refuse if routed.match is not None else None
    return render_error(error) if refuse is None else refuse(error)


def _read(headers: Headers) -> _Asked:
    asked = _Asked()
    bearer = ""
    for name, value in headers:
        if name == b"x-vault-token":
            if asked.token:
                raise invalid("X-Vault-Token is given twice")
            asked.token = value.decode("latin-1")
        elif name == b"content-type":
            asked.content_type = value.decode("latin-1").lower()
        elif name == b"authorization":
            scheme, _, rest = value.decode("latin-1").partition(" ")
            bearer = rest.strip() if scheme == "Bearer" else bearer
            asked.basic = rest.strip() if scheme.lower() == "basic" else asked.basic
        elif name in _PLAIN:
            setattr(asked, _PLAIN[name], value.strip())
        else:
            _read_rare(asked, name, value)
    asked.token = asked.token or bearer
    return asked


def _read_rare(asked: _Asked, name: bytes, value: bytes) -> None:
    if name == b"x-vault-mfa":
        asked.mfa = (*asked.mfa, value.decode("latin-1").strip())
    elif name == b"idempotency-key":
        if asked.idempotency_key:
            raise invalid("Idempotency-Key is given twice")
        asked.idempotency_key = value.strip()
    elif name.startswith(b"x-vault-inline-auth-"):
        # A second way in would need each check of the first: who means it is not served as somebody else.
        raise invalid("inline authentication is not available on this server; log in and send the token")


def _namespace_header(headers: Headers) -> bytes:
    found = [value.strip() for name, value in headers if name == b"x-vault-namespace"]
    if len(found) > 1:
        raise invalid("X-Vault-Namespace is given twice")
    return found[0] if found else b""


def _audited(headers: Headers, wanted: Mapping[bytes, bool]) -> dict[str, tuple[list[str], bool]]:
    found: dict[str, tuple[list[str], bool]] = {}
    for name, value in headers:
        if name in wanted:
            kept = found.setdefault(name.decode("latin-1"), ([], wanted[name]))
            kept[0].append(value.decode("latin-1"))
    return found


def _given(route: Route, body: bytes, asked: _Asked) -> Mapping[str, object]:
    """What a body says, in the form that the route takes."""
    if route.accepts and asked.content_type.partition(";")[0].strip() != route.accepts:
        detail = f"the content type of the request must be {route.accepts}"
        raise KmsError(ErrorKind.INVALID, detail, status=415)
    return {route.text: body.decode("latin-1")} if route.text else bodies.parse(body, asked.content_type)


def _receipted(headers: tuple[tuple[str, str], ...], receipt: str) -> tuple[tuple[str, str], ...]:
    return (*headers, ("X-Keystead-Receipt", receipt))


def _no_route_error(routed: Routed) -> KmsError:
    if routed.reason == "verb":
        return KmsError(ErrorKind.UNSUPPORTED, "unsupported operation")
    if routed.reason == "path":
        return KmsError(ErrorKind.NO_ROUTE, multi("unsupported path"))
    shown = routed.path[len(routed.namespace.path) :].replace('"', "'")
    return KmsError(ErrorKind.NO_ROUTE, f'no handler for route "{shown}". route entry not found.')


__all__ = ["Door", "Headers", "Prepared", "Rendered", "Routed"]
