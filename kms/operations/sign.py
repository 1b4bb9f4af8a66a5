"""sign and verify: parameters are read once per request and hold for every item of its batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from kms.errors import KmsError, invalid
from kms.keys.aead import Derivation
from kms.keys.catalogue import Kind, Use
from kms.keys.live import LiveKey
from kms.keys.ready import ReadyVersion
from kms.keys.service import KeyService
from kms.keys.signing import (
    MAX_CONTEXT_BYTES,
    NO_HASH,
    SALT_AUTO,
    SALT_HASH,
    How,
    SoftwareEdwards,
    der_of,
    raw_of,
    verify,
)
from kms.keys.states import Act
from kms.keys.view import public_of_context
from kms.operation import Call, Result
from kms.operations.batch import Item, each, items_of
from kms.operations.formats import Base64Error, decode, decode_url, encode, encode_url, hash_name, split
from kms.operations.mac import check_cmac, check_mac, cmac_size, decoded, mac_hash
from kms.operations.sealing import MISSING_CONTEXT, context_of


@dataclass(frozen=True, slots=True)
class Parameters:
    """How a request wants its signatures: `jws` says which encoding."""

    how: How
    jws: bool


def parameters(args: Mapping[str, Any], kind: Kind) -> Parameters:
    """Read and check the parameters of sign and verify. Ed25519 and ML-DSA ignore those about hashing.

    Raises:
        KmsError(INVALID)
    """
    name = hash_name(args["urlalgorithm"] or args["hash_algorithm"] or args["algorithm"] or "sha2-256")
    marshaling = args["marshaling_algorithm"]
    if marshaling not in ("asn1", "jws"):
        raise invalid(f'invalid marshaling type "{marshaling}"')
    salt = _salt(args["salt_length"])
    scheme = args["signature_algorithm"]
    if kind is Kind.RSA and scheme not in ("", "pss", "pkcs1v15"):
        raise invalid(f"unsupported rsa signature algorithm {scheme}")
    pkcs1v15, prehashed = scheme == "pkcs1v15", args["prehashed"]
    context = _context(args["signature_context"], kind)
    if kind in (Kind.EDWARDS, Kind.MLDSA):
        return Parameters(How(context=context), marshaling == "jws")
    if name == NO_HASH:
        if not (prehashed and pkcs1v15):
            raise invalid("hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15")
        if kind is not Kind.RSA:
            raise invalid("hash_algorithm=none is for RSA keys; name the hash that made the digest")
    return Parameters(How(name, prehashed, pkcs1v15, salt), marshaling == "jws")


def _context(given: str, kind: Kind) -> bytes:
    """The context string of an ML-DSA signature, named and encoded as in Vault's API."""
    if not given:
        return b""
    if kind is not Kind.MLDSA:
        raise invalid("signature_context is for ML-DSA keys")
    try:
        context = decode(given)
    except Base64Error as error:
        raise invalid(f"unable to decode signature_context as base64: {error}") from None
    if len(context) > MAX_CONTEXT_BYTES:
        raise invalid(f"signature_context has at most {MAX_CONTEXT_BYTES} bytes")
    return context


def _salt(text: str) -> int:
    if text == "auto":
        return SALT_AUTO
    if text == "hash":
        return SALT_HASH
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 6):
        raise invalid(f"salt length neither 'auto', 'hash', nor an int: {text}")
    if int(text) < SALT_HASH:
        raise invalid(f"salt length is invalid: {text}")
    return int(text)


class Signing:
    """The handlers of transit.sign and transit.verify."""

    def __init__(self, service: KeyService) -> None:
        self._service = service

    def sign(self, call: Call) -> Result:
        """Sign the input, or each item's. A batch answers 200; items that failed say so."""
        args = call.args
        items = items_of(args)
        live = self._key(call, "signing key not found")
        if not live.key.allows(Use.SIGN):
            raise invalid(f"key type {live.key.type} does not support signing")
        how = parameters(args, live.algorithm.kind)
        if items is None:
            version = live.protecting(args["key_version"], "signing", Act.SIGN)
            context = context_of(args["context"])
            signature = _sign(version, decoded(args["input"]), how, context)
            data: Item = {"signature": signature, "key_version": version.number}
            if version.derivation is not None:
                data["public_key"] = public_of_context(version.derivation, context)
            return Result(data=data, subject={"key_id": live.key.id, "key_version": version.number})

        used = 0

        def work(item: Item, _index: int) -> Item:
            nonlocal used
            if item.get("input") is None:
                raise invalid("missing input")
            data = decoded(item["input"])
            context = context_of(item.get("context"))
            # A version that may not sign is each item's error, as in the Vault API.
            version = live.protecting(args["key_version"], "signing", Act.SIGN)
            used = version.number
            signature = _sign(version, data, how, context)
            done: Item = {"signature": signature, "key_version": version.number}
            if version.derivation is not None:
                # The Vault API spells it so in batches.
                done["publickey"] = public_of_context(version.derivation, context)
            return done

        results, failures = each(items, work, {"key_version": 0})
        return Result(
            data={"batch_results": results},
            items=len(results),
            subject={"key_id": live.key.id, "key_version": used, "failed": failures},
        )

    def verify(self, call: Call) -> Result:
        """Check a signature, an HMAC or a CMAC; `valid` is the answer, an error means it was none."""
        args = call.args
        items = items_of(args)
        what = _what(items) if items is not None else _what_of_one(args)
        live = self._key(call, "signature verification key not found")
        check = _CHECKS[what](args, live)
        live.permit(Act.VERIFY if what == "signature" else Act.CHECK)
        subject = live.subject()
        if items is None:
            valid = check(str(args[what]), decoded(args["input"]), context_of(args["context"]))
            return Result(data={"valid": valid}, subject=subject | {"valid": int(valid)})

        def work(item: Item, _index: int) -> Item:
            if item.get("input") is None:
                raise invalid("missing input")
            return {"valid": check(str(item[what]), decoded(item["input"]), context_of(item.get("context")))}

        results, failures = each(items, work, {} if what == "hmac" else {"valid": False})
        return Result(
            data={"batch_results": results}, items=len(results), subject=subject | {"failed": failures}
        )

    def _key(self, call: Call, missing: str) -> LiveKey:
        live = self._service.get(call.mount.id, call.args["name"])
        if live is None:
            raise invalid(missing)
        return live


# What a request wants checked: (text, data, context) -> whether it is good.
_Check = Callable[[str, bytes, bytes], bool]


def _mac_check(args: Mapping[str, Any], live: LiveKey) -> _Check:
    asked = args["urlalgorithm"] or args["hash_algorithm"] or args["algorithm"] or "sha2-256"
    hash_name(asked)
    name = mac_hash(asked)
    return lambda text, data, _context: check_mac(live, text, data, name)


def _cmac_check(args: Mapping[str, Any], live: LiveKey) -> _Check:
    size = cmac_size(args["mac_length"])
    return lambda text, data, _context: check_cmac(live, text, data, size)


def _what_of_one(args: Mapping[str, Any]) -> str:
    for what in _CHECKS:
        if args[what] is not None:
            return what
    raise invalid("neither a 'signature' nor an 'hmac' were given to verify")


def _what(items: list[Item]) -> str:
    kinds = {next((what for what in _CHECKS if item.get(what) is not None), "") for item in items}
    if kinds == {""}:
        raise invalid("no batch_input elements have 'signature' or 'hmac'")
    if "" in kinds and len(kinds) == 2:
        raise invalid(f"some elements of batch_input are missing '{max(kinds)}'")
    if len(kinds) > 1:
        raise invalid("elements of batch_input must all provide 'signature' or all provide 'hmac'")
    return kinds.pop()


def _derived(derivation: Derivation, context: bytes) -> Ed25519PrivateKey:
    if not context:
        raise invalid(f"error deriving key: {MISSING_CONTEXT}")
    return derivation.signer(context)


def _sign(version: ReadyVersion, data: bytes, wanted: Parameters, context: bytes) -> str:
    signer = version.signer
    if version.derivation is not None:
        signer = SoftwareEdwards(_derived(version.derivation, context))
    if signer is None:
        raise invalid("requested version for signing does not contain a private part")
    signature = signer.sign(data, wanted.how)
    encoded = encode_url(_raw(version, signature)) if wanted.jws else encode(signature)
    return f"vault:v{version.number}:{encoded}"


def _raw(version: ReadyVersion, signature: bytes) -> bytes:
    public = version.public
    if isinstance(public, ec.EllipticCurvePublicKey):
        return raw_of(signature, (public.key_size + 7) // 8)
    return signature


def _signature_check(args: Mapping[str, Any], live: LiveKey) -> _Check:
    if not live.key.allows(Use.SIGN):
        raise invalid(f"key type {live.key.type} does not support verification")
    wanted = parameters(args, live.algorithm.kind)
    return lambda text, data, context: _verify(live, text, data, wanted, context)


def _verify(live: LiveKey, text: str, data: bytes, wanted: Parameters, context: bytes) -> bool:
    number, encoded = split(text, "signature")
    version = live.processing(number, "signature", Act.VERIFY)
    public = version.public
    if version.derivation is not None:
        public = _derived(version.derivation, context).public_key()
    if public is None:
        raise TypeError("the key was checked to verify")
    try:
        signature = decode_url(encoded) if wanted.jws else decode(encoded)
    except Base64Error:
        raise invalid("invalid base64 signature value") from None
    if isinstance(public, ec.EllipticCurvePublicKey):
        der = _der(signature, (public.key_size + 7) // 8, jws=wanted.jws)
        if der is None:
            return False
        signature = der
    try:
        verify(public, signature, data, wanted.how)
    except InvalidSignature:
        return False
    return True


def _der(signature: bytes, size: int, *, jws: bool) -> bytes | None:
    """The DER form of an ECDSA signature; None when it is one that no key could have made.

    Raises:
        KmsError(INVALID): not a DER signature.
    """
    if jws:
        return der_of(signature) if len(signature) == 2 * size else None
    try:
        decode_dss_signature(signature)
    except ValueError:
        raise _malformed() from None
    return signature


def _malformed() -> KmsError:
    return invalid("supplied signature is invalid")


_CHECKS: Final[dict[str, Callable[[Mapping[str, Any], LiveKey], _Check]]] = {
    "signature": _signature_check,
    "hmac": _mac_check,
    "cmac": _cmac_check,
}
