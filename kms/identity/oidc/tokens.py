"""Identity tokens: a token's entity, signed for a role's audience; and what verifiers ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import jwt
import msgspec

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError, invalid
from kms.identity.entities.model import Standing
from kms.identity.entities.standing import Directory
from kms.identity.oidc.keyadmin import named
from kms.identity.oidc.model import ROLES
from kms.identity.oidc.roleadmin import config_of
from kms.identity.oidc.signing import ALGORITHMS, SigningKeys
from kms.identity.oidc.templates import claims_of
from kms.identity.within import Within, namespace_id_of
from kms.operation import Call, Result
from kms.tables import Store

JSON: Final = "application/json"
_MAX_TOKEN: Final = 32 * 1024
_PATH: Final = "identity/oidc"
encode = msgspec.json.Encoder(order="sorted").encode


def document(data: Mapping[str, Any], *, max_age: int = 0, status: int = 200) -> Result:
    """A bare JSON answer."""
    headers = (("Cache-Control", f"max-age={max_age}"),) if max_age else ()
    return Result(raw=(encode(data), JSON), status=status, headers=headers)


class IdentityTokens:
    """One per process, safe to use from several threads.

    Args:
        address: scheme, host and port of this server: the issuer, where none is configured.
    """

    def __init__(
        self, store: Store, clock: Clock, directory: Directory, signing: SigningKeys, address: str
    ) -> None:
        self._store = store
        self._clock = clock
        self._directory = directory
        self._signing = signing
        self._address = address

    def issuer(self, reader: Within) -> str:
        """The issuer of identity tokens of a namespace."""
        return f"{config_of(reader).issuer or self._address}/v1/{reader.namespace.path}{_PATH}"

    def generate(self, call: Call) -> Result:
        """A signed token about the entity of the caller."""
        reader, name = Within(self._store.reader(), call.namespace), call.args["name"]
        row = reader.get(ROLES, name)
        if row is None:
            raise invalid(f'role "{name}" not found')
        role = row.value
        key = named(reader, role.key)
        if key is None:
            raise invalid(f'key "{role.key}" not found')
        if not key.allows(role.client_id):
            raise invalid(
                f'the key "{role.key}" does not list the client ID of the role "{name}" as an allowed client ID'
            )
        standing = self.of_caller(call)
        if standing is None:
            raise invalid("no entity associated with the request's token")
        now = self._clock.now()
        warnings: tuple[str, ...] = ()
        ttl = role.ttl
        if ttl > key.verification_ttl:
            ttl = key.verification_ttl
            warning = "a role's token ttl cannot be longer than the verification_ttl of the key it references"
            warnings = (f"{warning}, setting token ttl to {ttl}",)
        claims = {
            **claims_of(role.template, standing, now),
            "iss": self.issuer(reader),
            "namespace": reader.shown_id,
            "sub": standing.entity.id,
            "aud": role.client_id,
            "exp": int(now) + ttl,
            "iat": int(now),
        }
        token = self._signing.sign(key, claims)
        data = {"token": token, "client_id": role.client_id, "ttl": role.ttl}
        subject = {"role": name, "kid": key.signing, "entity": standing.entity.id}
        return Result(data=data, warnings=warnings, subject=subject)

    def of_caller(self, call: Call) -> Standing | None:
        """The standing of the entity that the caller's token belongs to; None where it is another namespace's."""
        entity_id = call.principal.entity_id
        if not entity_id or namespace_id_of(entity_id) != call.namespace.id:
            return None
        return self._directory.standing(entity_id)

    # -- what verifiers ask for ----------------------------------------------------------------------------

    def discovery(self, call: Call) -> Result:
        """OpenID Connect Discovery 1.0, section 3: as much of it as a verifier of tokens needs."""
        issuer = self.issuer(Within(self._store.reader(), call.namespace))
        return document(
            {
                "issuer": issuer,
                "jwks_uri": f"{issuer}/.well-known/keys",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": list(ALGORITHMS),
            },
            max_age=3600,
        )

    def keys(self, call: Call) -> Result:
        """The public keys of all named keys that a role uses."""
        reader = Within(self._store.reader(), call.namespace)
        names = {row.value.key for row in reader.scan(ROLES)}
        return self.published(reader, names)

    def published(self, reader: Within, names: Iterable[str]) -> Result:
        """A JWK set of some named keys; kept by clients for no longer than an announced key waits."""
        now = self._clock.now()
        found: list[dict[str, Any]] = []
        age = 3600
        for name in sorted(names):
            key = named(reader, name)
            if key is not None:
                found += self._signing.documents(reader.rows, key, now)
                age = max(1, min(age, key.rotation_period // 2, key.verification_ttl // 2))
        return document({"keys": found}, max_age=age if found else 0)

    def introspect(self, call: Call) -> Result:
        """Whether a token of ours is in force, and its entity too."""
        try:
            self._verify(
                Within(self._store.reader(), call.namespace),
                call.args.get("token") or "",
                call.args.get("client_id") or "",
            )
        except KmsError as error:
            return document({"active": False, "error": error.detail})
        return document({"active": True})

    def _verify(self, reader: Within, token: str, client_id: str) -> None:
        claims = self._signed(reader, token)
        checks = {
            "exp": float(claims.get("exp", 0)) > self._clock.now(),
            "iss": claims.get("iss") == self.issuer(reader),
            "aud": not client_id or claims.get("aud") == client_id,
        }
        for name, good in checks.items():
            if not good:
                raise _inactive(f"error validating claims: the {name} claim does not hold")
        standing = self._directory.standing(str(claims.get("sub", "")))
        if standing is None:
            raise _inactive("entity was not found")
        if standing.entity.disabled:
            raise _inactive("entity is disabled")

    def _signed(self, reader: Within, token: str) -> dict[str, Any]:
        if len(token) > _MAX_TOKEN:
            raise _inactive("error parsing token: it is too long")
        names = {row.value.key for row in reader.scan(ROLES)}
        now = self._clock.now()
        keys = [key for name in names if (key := named(reader, name)) is not None]
        known = [one for key in keys for one in self._signing.documents(reader.rows, key, now)]
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise _inactive("error parsing token: it is no signed JWT") from None
        for held in known:
            if held["kid"] != header.get("kid"):
                continue
            try:
                payload = jwt.PyJWS().decode(token, jwt.PyJWK(held).key, algorithms=[held["alg"]])
                claims = msgspec.json.decode(payload)
            except (jwt.PyJWTError, msgspec.DecodeError):
                continue
            if isinstance(claims, dict):
                return claims
        raise _inactive("unable to validate the token signature")


def _inactive(reason: str) -> KmsError:
    return KmsError(ErrorKind.INVALID, reason)
