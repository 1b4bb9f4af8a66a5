"""Between a proof that holds and its token: does this login need a second factor, and was it shown?

    one step    the codes come with the login (X-Vault-MFA): checked in the commit of the token
    two steps   the login is put away, and waits for `sys/mfa/validate` for five minutes

A try that fails is counted, so it commits; what the caller is told is then a refusal (`Result.refusal`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from kms.errors import ErrorKind, KmsError
from kms.identity.entities.model import Standing
from kms.identity.mfa.codes import TooManyTriesError, checked
from kms.identity.mfa.store import ENFORCEMENTS, METHODS, SECRETS, TOTP, WAITING, Enforcement, Method, Waiting
from kms.identity.model import Token
from kms.identity.within import Within, Writing
from kms.ids import new_uuid
from kms.namespaces import scoped, unscoped
from kms.operation import Call, MountRef, NamespaceRef, Result
from kms.tables import Reader, Row, Transaction

WAIT_SECONDS: Final = 300.0
_ASK: Final = (
    "A login request was issued that is subject to MFA validation. Please make sure to validate the login by"
    " sending another request to mfa/validate endpoint."
)

Codes = Mapping[str, Sequence[str]]
"""What was shown: ID or name of a method -> codes."""


@dataclass(frozen=True)
class _Tried:
    """One enforcement: "" for satisfied, else why not."""

    failure: str


class SecondFactor:
    """One per process, safe to use from several threads.

    Args:
        digest: (kind, secret) -> the HMAC that a row is named by.
        now: seconds since the epoch.
        above: a namespace -> itself and all above it, of which each one's enforcements hold for its logins.
    """

    def __init__(
        self,
        digest: Callable[[str, str], str],
        now: Callable[[], float],
        above: Callable[[NamespaceRef], Iterable[NamespaceRef]],
    ) -> None:
        self._digest = digest
        self._now = now
        self._above = above

    # -- which logins ------------------------------------------------------------------------------------

    def needed(self, rows: Reader, mount: MountRef, standing: Standing | None) -> tuple[str, ...]:
        """Row keys of the enforcements that a login must satisfy: those of its namespace and of all above it."""
        return tuple(
            scoped(namespace, row.key)
            for namespace in self._above(mount.namespace)
            for row in Within(rows, namespace).scan(ENFORCEMENTS)
            if _applies(row.value, mount, standing)
        )

    # -- two steps ---------------------------------------------------------------------------------------

    def put_away(
        self, call: Call, rows: Transaction, born: Token, names: tuple[str, ...], warnings: tuple[str, ...]
    ) -> Result:
        """The login waits; what its caller is told instead of a token."""
        request_id = new_uuid()
        waiting = Waiting(
            token=born, enforcements=names, expires_at=self._now() + WAIT_SECONDS, warnings=warnings
        )
        Writing(rows, call.namespace).insert(WAITING, self.row_key(request_id), waiting)
        constraints: dict[str, Any] = {}
        for key in names:
            name = unscoped(key)[1]
            constraints[key if name in constraints else name] = {"any": list(_shown(rows, key))}
        return Result(
            auth={
                "client_token": "",
                "accessor": "",
                "policies": None,
                "metadata": None,
                "lease_duration": 0,
                "renewable": False,
                "entity_id": "",
                "token_type": "default",
                "orphan": False,
                "mfa_requirement": {"mfa_request_id": request_id, "mfa_constraints": constraints},
                "num_uses": 0,
            },
            warnings=(_ASK,),
            subject={"entity": born.entity_id, "display_name": born.display_name, "mfa": "asked"},
        )

    def row_key(self, request_id: str) -> str:
        """The row of a login that waits. Who knows the request ID can finish it, so the ID is not stored."""
        return self._digest("mfa-login", request_id)

    # -- checking ----------------------------------------------------------------------------------------

    def failure(self, tx: Transaction, entity_id: str, names: Iterable[str], codes: Codes) -> str:
        """Check all enforcements and use up what was shown; "" when all are satisfied, else why not.

        The caller commits either way.
        """
        for key in names:
            row = tx.get(ENFORCEMENTS, key)
            if row is None:
                continue  # nobody demands it any more
            tried = self._one(tx, entity_id, row, codes)
            if tried.failure:
                return f"failed to satisfy enforcement {unscoped(key)[1]}. error: {tried.failure}"
        return ""

    def _one(self, tx: Transaction, entity_id: str, row: Row[Enforcement], codes: Codes) -> _Tried:
        failures: list[str] = []
        for method_id in row.value.mfa_method_ids:
            held = tx.get(METHODS, method_id)
            if held is None:
                continue
            method = held.value
            shown = codes.get(method.id)
            if shown is None and method.name:
                shown = codes.get(method.name)
            if shown is None:
                failures.append(
                    f"failed to find MFA credentials associated with an MFA method ID {method.id}, method name"
                    f" {method.name}"
                )
                continue
            wrong = self._code(tx, method, entity_id, shown)
            if not wrong:
                return _Tried("")
            failures.append(wrong)
        if all("failed to find MFA credentials" in failure for failure in failures):
            return _Tried(f"failed to sanitize MFA creds, {_errors(failures[:1])}")
        listed = " ".join(row.value.mfa_method_ids)
        return _Tried(_errors([*failures, f"login MFA validation failed for methodID: [{listed}]"]))

    def _code(self, tx: Transaction, method: Method, entity_id: str, shown: Sequence[str]) -> str:
        secret = tx.get(SECRETS, secret_key(method.id, entity_id))
        if secret is None:
            return f'MFA secret for method name "{method.name}" not present in entity "{entity_id}"'
        code = shown[0] if shown else ""
        try:
            after, good = checked(method, secret.value, code, self._now())
        except TooManyTriesError as many:
            return (
                f"maximum TOTP validation attempts {method.max_validation_attempts + 1} exceeded the allowed attempts"
                f" {method.max_validation_attempts}. Please try again in {many.seconds} seconds"
            )
        tx.replace(SECRETS, secret, after)
        return "" if good else "MFA credentials not supplied or incorrect"

    def expired(self, reader: Reader) -> bool:
        """Whether a login has waited too long."""
        return bool(reader.find(WAITING, {}, below=("expires_at", self._now()), limit=1))

    def reap(self, tx: Transaction, limit: int) -> int:
        """Forget logins that waited too long, at most `limit`; how many."""
        rows = tx.find(WAITING, {}, below=("expires_at", self._now()), limit=limit)
        for row in rows:
            tx.delete(WAITING, row)
        return len(rows)


def secret_key(method_id: str, entity_id: str) -> str:
    """The row of what an entity shares with a method."""
    return f"{method_id}/{entity_id}"


def codes_of(headers: Iterable[str]) -> Codes:
    """What the X-Vault-MFA headers of a login show: `METHOD:CODE` each."""
    codes: dict[str, list[str]] = {}
    for header in headers:
        name, _, code = header.partition(":")
        codes.setdefault(name, []).append(code)
    return codes


def refused(text: str = "permission denied") -> KmsError:
    """The second factor is missing or wrong."""
    error = KmsError(ErrorKind.DENIED, text)
    error.for_caller = True
    return error


def passed(born: Token, now: float) -> Token:
    """The token of a login that has shown its second factor now."""
    return replace(born, mfa=True, created=now, expires_at=now + born.lease_ttl)


def _applies(rule: Enforcement, mount: MountRef, standing: Standing | None) -> bool:
    if mount.accessor in rule.auth_method_accessors or mount.type in rule.auth_method_types:
        return True
    if standing is None:
        return False
    if standing.entity.id in rule.identity_entity_ids:
        return True
    return any(group.id in rule.identity_group_ids for group in standing.groups)


def _shown(reader: Reader, name: str) -> Iterable[dict[str, Any]]:
    row = reader.get(ENFORCEMENTS, name)
    for method_id in row.value.mfa_method_ids if row is not None else ():
        held = reader.get(METHODS, method_id)
        shown = held.value.name if held is not None else ""
        yield {"type": TOTP, "id": method_id, "uses_passcode": True, "name": shown}


def _errors(texts: Sequence[str]) -> str:
    """In the form of Go's multierror."""
    head = "1 error occurred:" if len(texts) == 1 else f"{len(texts)} errors occurred:"
    return head + "".join(f"\n\t* {text}" for text in texts) + "\n\n"
