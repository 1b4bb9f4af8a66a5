"""Roles of identity tokens, and the issuer that they name."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from kms.errors import invalid, not_found
from kms.identity.oidc.keyadmin import OidcKeys, named
from kms.identity.oidc.model import CONFIG, ROLES, OidcConfig, OidcRole
from kms.identity.oidc.templates import check
from kms.identity.within import Within, Writing
from kms.ids import base62
from kms.operation import Call, Change, Outcome, Result
from kms.tables import Reader, Store, Transaction

_CONFIG_KEY: Final = "config"
_NEW_ISSUER: Final = (
    'If "issuer" is set explicitly, all tokens must be validated against that address, including those issued by '
    'secondary clusters. Setting issuer to "" will restore the default behavior of using the cluster\'s api_addr as '
    "the issuer."
)
_CLIENT_ID: Final = 26  # base62 characters


def check_issuer(issuer: str) -> tuple[str, ...]:
    """Warnings about an issuer. Raises KmsError(INVALID) for one that is more than scheme, host and port."""
    if not issuer:
        return ()
    try:
        parts = urlsplit(issuer)
        plain = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        plain = False
    if not plain or issuer != f"{parts.scheme}://{parts.netloc}" or "@" in issuer or not issuer.isprintable():
        raise invalid(
            "invalid issuer, which must include only a scheme, host, and optional port "
            "(e.g. https://example.com:8200)"
        )
    return (_NEW_ISSUER,)


def config_of(reader: Reader) -> OidcConfig:
    """The configuration, also before it was ever written."""
    row = reader.get(CONFIG, _CONFIG_KEY)
    return row.value if row is not None else OidcConfig()


class OidcRoles:
    """One per process, safe to use from several threads."""

    def __init__(self, store: Store, keys: OidcKeys) -> None:
        self._store = store
        self._keys = keys

    # -- the issuer --------------------------------------------------------------------------------------

    def read_config(self, call: Call) -> Result:
        """The issuer."""
        return Result(data={"issuer": config_of(Within(self._store.reader(), call.namespace)).issuer})

    def write_config(self, call: Call) -> Change:
        """Set the issuer."""
        issuer = call.args.get("issuer") or ""
        warnings = check_issuer(issuer)

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            row = tx.get(CONFIG, _CONFIG_KEY)
            if "issuer" not in call.given:
                return Result()
            if row is None:
                tx.insert(CONFIG, _CONFIG_KEY, OidcConfig(issuer))
            else:
                tx.replace(CONFIG, row, OidcConfig(issuer))
            return Result(warnings=warnings, subject={"issuer": issuer})

        return Change(write)

    # -- roles -------------------------------------------------------------------------------------------

    def exists(self, call: Call) -> bool:
        """Whether the role is there: creating and updating are different rights."""
        return Within(self._store.reader(), call.namespace).get(ROLES, call.args["name"]) is not None

    def read(self, call: Call) -> Result:
        """One role."""
        row = Within(self._store.reader(), call.namespace).get(ROLES, call.args["name"])
        if row is None:
            raise not_found()
        role = row.value
        data = {"client_id": role.client_id, "key": role.key, "template": role.template, "ttl": role.ttl}
        return Result(data=data)

    def listing(self, call: Call) -> Result:
        """All names."""
        names = Within(self._store.reader(), call.namespace).keys(ROLES)
        if not names:
            raise not_found()
        return Result(data={"keys": names}, items=len(names))

    def write(self, call: Call) -> Outcome:
        """Make or change a role."""
        name, reader = call.args["name"], Within(self._store.reader(), call.namespace)
        row = reader.get(ROLES, name)
        role = _changed(row.value if row is not None else None, call.args, call.given)

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            key = named(tx, role.key)
            if key is None:
                raise invalid(f'cannot find key "{role.key}"')
            if role.ttl > key.verification_ttl:
                raise invalid(
                    "a role's token ttl cannot be longer than the verification_ttl of the key it references"
                )
            if row is None:
                tx.insert(ROLES, name, role)
            else:
                tx.replace(ROLES, row, role)
            return Result(subject={"role": name, "key": role.key})

        return self._keys.needed(reader, role.key, Change(write))

    def delete(self, call: Call) -> Change:
        """Delete a role; tokens made under it go on verifying."""

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            row = tx.get(ROLES, call.args["name"])
            if row is not None:
                tx.delete(ROLES, row)
            return Result(subject={"role": call.args["name"]})

        return Change(write)


def _changed(before: OidcRole | None, args: dict[str, Any], given: frozenset[str]) -> OidcRole:
    role = before or OidcRole(key="", client_id="")
    changes: dict[str, Any] = {name: args[name] for name in ("key", "ttl", "client_id") if name in given}
    if not changes.get("key", role.key):
        raise invalid("the key parameter is required")
    template = args["template"] if "template" in given else role.template
    role = replace(role, **changes, template=check(template or ""))
    return role if role.client_id else replace(role, client_id=base62(_CLIENT_ID))
