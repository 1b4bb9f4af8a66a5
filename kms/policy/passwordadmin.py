"""Password policies by name: sys/policies/password, and generating by name for whoever makes passwords."""

from __future__ import annotations

import base64
import binascii

import msgspec

from kms.errors import invalid, not_found
from kms.namespaces import scoped, scoped_prefix, unscoped
from kms.operation import (
    ROOT_NAMESPACE,
    Call,
    Capability,
    Change,
    Effect,
    Field,
    NamespaceRef,
    Operation,
    Record,
    Result,
)
from kms.policy.names import spelled
from kms.policy.passwords import PasswordRules, generate, read_password_rules
from kms.tables import Reader, Store, Table, Transaction


class PasswordPolicy(msgspec.Struct, frozen=True):
    """A password policy as written, and as read then."""

    text: str
    rules: PasswordRules


PASSWORDS = Table("password-policy", "password_policies", PasswordPolicy, digest="policy")
"""Keyed by name. Unlike those of ACL policies, these names know upper and lower case, as on the peer."""


class PasswordPolicies:
    """One per process, safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def generate(
        self, name: str, reader: Reader | None = None, namespace: NamespaceRef = ROOT_NAMESPACE
    ) -> str:
        """A password by the named policy of a namespace. Raises KmsError(NOT_FOUND)."""
        key = scoped(namespace, spelled(name, "password policy name"))
        row = (reader or self._store.reader()).get(PASSWORDS, key)
        if row is None:
            raise not_found("policy does not exist")
        return generate(row.value.rules)

    # -- handlers ---------------------------------------------------------------------------------

    def names(self, call: Call) -> Result:
        """All names."""
        keys = self._store.reader().keys(PASSWORDS, scoped_prefix(call.namespace))
        names = [name for owner, name in map(unscoped, keys) if owner == call.namespace.id]
        if not names:
            raise not_found()
        return Result(data={"keys": names}, items=len(names))

    def read(self, call: Call) -> Result:
        """The text."""
        row = self._store.reader().get(PASSWORDS, _key(call))
        if row is None:
            raise not_found("policy does not exist")
        return Result(data={"policy": row.value.text})

    def write(self, call: Call) -> Change:
        """Write one. It is read first, so that what is stored can be obeyed."""
        text, name = _unwrapped(call.args.get("policy") or ""), call.args["name"]
        key = _key(call)
        if not text:
            raise invalid("missing policy")
        made = PasswordPolicy(text, read_password_rules(text))

        def write(tx: Transaction) -> Result:
            held = tx.get(PASSWORDS, key)
            if held is None:
                tx.insert(PASSWORDS, key, made)
            else:
                tx.replace(PASSWORDS, held, made)
            return Result(subject={"password_policy": name, "length": made.rules.length})

        return Change(write)

    def delete(self, call: Call) -> Change:
        """Delete one; one that is not there is no error."""

        def write(tx: Transaction) -> Result:
            held = tx.get(PASSWORDS, _key(call))
            if held is not None:
                tx.delete(PASSWORDS, held)
            return Result()

        return Change(write)

    def make(self, call: Call) -> Result:
        """A password, for the caller."""
        return Result(data={"password": self.generate(call.args["name"], namespace=call.namespace)})

    def table(self) -> list[Operation]:
        """The operations below sys/policies/password."""
        name = Field("name", record=Record.CLEAR)
        state = Effect.STATE
        return [
            Operation("policy.password.list", Capability.LIST, self.names),
            Operation("policy.password.read", Capability.READ, self.read, fields=(name,)),
            Operation(
                "policy.password.write",
                Capability.UPDATE,
                self.write,
                effect=state,
                fields=(name, Field("policy")),
            ),
            Operation("policy.password.delete", Capability.DELETE, self.delete, effect=state, fields=(name,)),
            Operation("policy.password.generate", Capability.READ, self.make, fields=(name,)),
        ]


def _key(call: Call) -> str:
    return scoped(call.namespace, spelled(call.args["name"], "password policy name"))


def _unwrapped(text: str) -> str:
    # No policy text is itself base64: it holds a quote.
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return text
