"""Signing keys of identity tokens: keys of this server under a mount of their own, which no path reaches.

Each has one name, its `kid`. Versions other than the first come from a recovery after a theft of the keyring, and have
the kid with their number; the newest signs.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from kms.errors import ErrorKind, KmsError, integrity
from kms.identity.oidc.model import NEVER, OidcKey, RingEntry
from kms.ids import new_uuid
from kms.keys.birth import Birth
from kms.keys.core import insert
from kms.keys.lifecycle import Wish
from kms.keys.model import KeyVersion, NamedKey, VersionState
from kms.keys.service import KeyService
from kms.keys.signing import How, raw_of
from kms.keys.states import Act
from kms.keys.store import KEY_VERSIONS, NAMED_KEYS, name_key, version_key
from kms.operation import Change, External, Result
from kms.tables import Reader, Transaction

MOUNT: Final = "identity-oidc"
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA")
_TYPES: Final = {
    **dict.fromkeys(("RS256", "RS384", "RS512"), "rsa-2048"),
    "ES256": "ecdsa-p256",
    "ES384": "ecdsa-p384",
    "ES512": "ecdsa-p521",
    "EdDSA": "ed25519",
}
_HASHES: Final = {"256": "sha256", "384": "sha384", "512": "sha512"}
_SIZES: Final = {"ES256": 32, "ES384": 48, "ES512": 66}
Born = tuple[NamedKey, KeyVersion]


def digest_name(algorithm: str) -> str:
    """Hashlib's name of the hash that goes with an algorithm (OIDC Core 3.1.3.6); Ed25519's is SHA-512."""
    return _HASHES.get(algorithm[2:], "sha512")


class SigningKeys:
    """One per process, safe to use from several threads."""

    def __init__(self, keys: KeyService) -> None:
        self._keys = keys

    # -- birth -------------------------------------------------------------------------------------------

    def conceive(self, key: OidcKey) -> Born:
        """A new signing key for a named one; what the HSM can make outside of transactions is made now.

        Raises:
            KmsError(INVALID): such a key, or this protection, is not to be had.
        """
        wish = Wish(type=_TYPES[key.algorithm], protection=key.protection)
        return self._keys.core.conceive(MOUNT, new_uuid(), wish)

    def bear(
        self, born: Iterable[Born], write: Callable[[Transaction], Result]
    ) -> Change | External[list[bytes]]:
        """Store new signing keys in the commit in which `write` stores what names them."""
        births, ready = [], []
        for key, version in born:
            if version.state is VersionState.PLANNED:
                births.append(Birth(self._keys.core.envelope, key, version, first=True))
            else:
                ready.append((key, version))

        def store(tx: Transaction) -> Result:
            for key, version in ready:
                insert(tx, key, version)
            return write(tx)

        return self._external(births, store) if births else Change(store)

    def _external(self, births: list[Birth], store: Callable[[Transaction], Result]) -> External[list[bytes]]:
        steps = [birth.external() for birth in births]

        def begin(tx: Transaction) -> None:
            for step in steps:
                if step.begin is not None:
                    step.begin(tx)

        def conclude(tx: Transaction, made: list[bytes]) -> Result:
            for birth, public in zip(births, made, strict=True):
                birth.conclude(tx, public)
            return store(tx)

        def abandon(tx: Transaction, error: KmsError) -> None:
            for birth in births:
                birth.abandon(tx, error)

        return External(
            intent={"keys": ",".join(birth.key.id for birth in births)},
            begin=begin,
            perform=lambda: [step.perform() for step in steps],
            conclude=conclude,
            abandon=abandon,
        )

    def resolve(self, intent: Mapping[str, str | int]) -> External[Any] | None:
        """Undo births that a crash cut off: nothing names their keys yet, and the HSM's objects are swept."""
        ids = str(intent.get("keys", "")).split(",")

        def undo(tx: Transaction) -> bool:
            undone = False
            for key_id in ids:
                row = tx.get(KEY_VERSIONS, version_key(key_id, 1))
                if row is None or row.value.state is not VersionState.PLANNED:
                    continue
                if row.value.planned_key is None:
                    raise integrity("a planned signing key has no name")
                birth = Birth(self._keys.core.envelope, row.value.planned_key, row.value, first=True)
                birth.abandon(tx, KmsError(ErrorKind.INTERNAL, "cut off"))
                undone = True
            return undone

        def conclude(tx: Transaction, _done: None) -> Result:
            return Result(partial=undo(tx), subject=intent)

        return External(
            intent=intent,
            begin=lambda _tx: None,
            perform=lambda: None,
            conclude=conclude,
            abandon=lambda _tx, _error: None,
        )

    def retire(self, tx: Transaction, kid: str) -> None:
        """The end of a signing key: unusable at once, destroyed after the waiting time of every key."""
        row = tx.get(NAMED_KEYS, name_key(MOUNT, kid))
        if row is not None:
            self._keys.retirement.replace(tx, row)

    # -- use ---------------------------------------------------------------------------------------------

    def sign(self, key: OidcKey, claims: Mapping[str, Any]) -> str:
        """A compact JWS (RFC 7515) of the claims. Never inside a transaction: the key may be in the HSM.

        Raises:
            KmsError(INVALID): the named key has no signing key; rotate it. Errors of the HSM pass through.
        """
        live = self._keys.get(MOUNT, key.signing) if key.signing else None
        if live is None:
            raise KmsError(
                ErrorKind.INVALID,
                "error signing OIDC token: signing key is nil; rotate the key and try again",
            )
        version = live.protecting(0, "signing", Act.SIGN)
        if version.signer is None:
            raise integrity("a signing key cannot sign")
        header = {"alg": key.algorithm, "kid": _kid(key.signing, version.number)}
        message = f"{_part(header)}.{_part(claims)}"
        how = How(digest_name(key.algorithm), pkcs1v15=True)
        signature = version.signer.sign(message.encode("ascii"), how)
        if key.algorithm in _SIZES:
            signature = raw_of(signature, _SIZES[key.algorithm])
        return f"{message}.{_encoded(signature)}"

    def documents(self, reader: Reader, key: OidcKey, now: float) -> list[dict[str, Any]]:
        """The public halves of a ring, as JWKs (RFC 7517)."""
        found = []
        for entry in key.ring:
            row = reader.get(NAMED_KEYS, name_key(MOUNT, entry.kid))
            if row is None or 0 < entry.expires_at <= now:
                continue
            for version in reader.scan(KEY_VERSIONS, f"{row.value.id}/"):
                if version.value.state is VersionState.ACTIVE:
                    kid = _kid(entry.kid, version.value.version)
                    found.append(_jwk(version.value.public, kid, entry.algorithm))
        return found


def _kid(name: str, version: int) -> str:
    return name if version == 1 else f"{name}.{version}"


def _jwk(public: bytes, kid: str, algorithm: str) -> dict[str, Any]:
    key = load_der_public_key(public)
    if isinstance(key, rsa.RSAPublicKey):
        document = RSAAlgorithm.to_jwk(key, as_dict=True)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        document = ECAlgorithm.to_jwk(key, as_dict=True)
    elif isinstance(key, ed25519.Ed25519PublicKey):
        document = OKPAlgorithm.to_jwk(key, as_dict=True)
    else:
        raise integrity("a signing key has a type that signs no tokens")
    document.pop("key_ops", None)
    return {**document, "use": "sig", "kid": kid, "alg": algorithm}


def _part(value: Mapping[str, Any]) -> str:
    return _encoded(json.dumps(value, separators=(",", ":"), sort_keys=True).encode("utf-8"))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def due_of(ring: Iterable[RingEntry], next_rotation: float) -> float:
    """When a named key needs attention next."""
    ends = [entry.expires_at for entry in ring if entry.expires_at]
    return min([next_rotation, *ends], default=NEVER)
