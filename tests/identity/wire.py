"""Policy and identity behind the real door, on a real store, without HSM and audit log.

The road here does what the pipeline does for these operations: refresh, authenticate, decide, act,
commit. Answers are the bytes that a client would get, so they can be laid beside the peer's.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError
from kms.http.ports import NO_ROUTE
from kms.http.vault import policies as policy_routes
from kms.http.vault import token as token_routes
from kms.http.vault.door import Door
from kms.http.vault.route import Rendered, Route
from kms.identity import TokenService
from kms.identity import operations as identity_operations
from kms.identity.methods.logins import Logins
from kms.namespaces import NamespaceTable
from kms.operation import Call, Capability, Change, MountRef, Operation, Result
from kms.oplog import OperatorLog
from kms.policy import PolicyService
from kms.policy import operations as policy_operations
from kms.policy.passwordadmin import PasswordPolicies
from kms.sensitive import Sensitive
from kms.storage import RowSealer, SqliteStore, prepare
from tests.support import make_sealer

MOUNTS = {
    "sys/": MountRef("m-sys", "sys/", "system", "system_0"),
    "auth/token/": MountRef("m-token", "auth/token/", "token", "auth_token_0"),
}


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class NoReceipt:
    """This road keeps no log."""

    def header(self) -> str:
        return ""


class Road:
    """The pipeline's steps that concern identity and policy."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def run(self, call: Call) -> tuple[Result, NoReceipt | None]:
        process = self._process
        process.store.refresh()
        call.principal = process.tokens.authenticate(call.credential, "127.0.0.1")
        operation = call.operation
        call.capability = operation.capability
        if operation.exists is not None and not operation.exists(call):
            call.capability = Capability.CREATE
        if not process.policies.decide(call.principal, call).allowed:
            raise KmsError(ErrorKind.DENIED, "permission denied")
        outcome = operation.act(call)
        if isinstance(outcome, Change):
            with process.store.transaction() as tx:
                return outcome.write(tx), None
        assert isinstance(outcome, Result)
        return outcome, None

    def crashed(self, call: Call) -> None:
        raise AssertionError(f"{call.operation.name} crashed")


class Mounts:
    """Two mounts that are always there."""

    def resolve(self, path: str) -> tuple[MountRef, str] | None:
        for prefix, mount in MOUNTS.items():
            if path.startswith(prefix):
                return mount, path.removeprefix(prefix)
        return None


class Process:
    """One worker's services over a database; several may share it."""

    def __init__(self, path: Path, sealer: RowSealer, clock: Clock, mac_key: bytes) -> None:
        self.store = SqliteStore.open(path)
        self.store.unlock(sealer)
        self.clock = clock
        self.tokens = TokenService(
            self.store, lambda: Sensitive(mac_key), clock, lambda: Sensitive(mac_key[::-1])
        )
        self.policies = PolicyService(self.store, clock)
        table = [
            *identity_operations(
                self.tokens,
                self.policies,
                Logins(
                    self.tokens,
                    lambda _mount: None,
                    lambda _reader, _mount, _name: None,
                    lambda namespace: (namespace,),
                ),
            ),
            *policy_operations(self.policies, self.tokens, clock),
            *PasswordPolicies(self.store).table(),
            Operation(NO_ROUTE, Capability.READ, _no_route),
        ]
        self.registry: Mapping[str, Operation] = {operation.name: operation for operation in table}
        self.routes: Mapping[str, tuple[Route, ...]] = {
            "system": policy_routes.ROUTES,
            "token": token_routes.ROUTES,
        }
        self.mounts = Mounts()
        self.namespaces = NamespaceTable(self.store, lambda: True, lambda: None)
        self.pipeline = Road(self)
        self._door = Door(self, OperatorLog(clock))

    def refresh(self) -> object:
        return self.store.refresh()

    def call(self, method: str, path: str, body: object = None, token: str = "") -> tuple[int, Any]:
        """One request; (status, decoded body or None)."""
        payload = b"" if body is None else json.dumps(body).encode()
        headers = [(b"x-vault-token", token.encode())] if token else []
        if method == "PATCH":
            headers.append((b"content-type", b"application/merge-patch+json"))
        routed = self._door.route(method, b"/v1/" + path.encode())
        prepared = (
            routed if isinstance(routed, Rendered) else self._door.prepare(routed, headers, payload, "")
        )
        answer = prepared if isinstance(prepared, Rendered) else self._door.run(prepared)
        return answer.status, json.loads(answer.body) if answer.body.strip() else None


class Server:
    """A database and as many processes as a test wants on it; `root` is a root token."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self.clock = clock or FakeClock()
        self._path = prepare(folder)
        self._sealer = make_sealer()
        self._mac_key = secrets.token_bytes(32)
        self.processes: list[Process] = []
        self.first = self.process()
        with self.first.store.transaction() as tx:
            self.root = self.first.tokens.create_root(tx)

    def process(self) -> Process:
        """One more worker."""
        made = Process(self._path, self._sealer, self.clock, self._mac_key)
        self.processes.append(made)
        return made

    def call(self, method: str, path: str, body: object = None, token: str | None = None) -> tuple[int, Any]:
        """A request to the first process, as root unless told otherwise ("" for no token)."""
        return self.first.call(method, path, body, self.root if token is None else token)

    def token(self, parent: str | None = None, **fields: object) -> str:
        """Create a token and return it."""
        status, answer = self.call("POST", "auth/token/create", fields, parent)
        assert status == 200, answer
        return str(answer["auth"]["client_token"])

    def policy(self, name: str, text: str) -> None:
        """Write a policy."""
        status, answer = self.call("PUT", f"sys/policies/acl/{name}", {"policy": text})
        assert status == 204, answer

    def works(self, token: str, process: Process | None = None) -> bool:
        """Whether a process accepts the token now."""
        used = process or self.first
        used.store.refresh()
        try:
            used.tokens.authenticate(token, "127.0.0.1")
        except KmsError as error:
            if error.kind is not ErrorKind.UNAUTHENTICATED:
                raise
            return False
        return True

    def close(self) -> None:
        """Close all processes."""
        for process in self.processes:
            process.store.close()


def _no_route(call: Call) -> Result:
    raise KmsError(ErrorKind.NO_ROUTE, str(call.args.get("reason")))
