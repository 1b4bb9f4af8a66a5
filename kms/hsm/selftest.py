"""Self-tests: in-process primitives against published answers, the token against those primitives.

A fixed key cannot be put into the token, as that would need C_CreateObject of a secret, which
Keystead never calls. So a token mechanism is tested with a throwaway session key that the token itself makes, readable
on purpose, and the token's answer is compared byte for byte with an independent computation in this process.
The in-process side first has to give the published answers. Signatures are checked in software with the public
key. Where a token refuses to make readable keys (FIPS mode), what remains is decrypt(encrypt), determinism
and the refusal of a wrong tag; the result says so. RSA is only in the thorough test: generating a pair takes too long for each start.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from pkcs11 import exceptions as p11
from pkcs11.constants import Attribute
from pkcs11.mechanisms import KeyType, Mechanism

from kms.hsm import objects, rawops
from kms.hsm.connection import Connection
from kms.hsm.failures import LOST, name_of
from kms.hsm.mechanisms import HMACS, KWP_CANDIDATES, SPECS, sign_call
from kms.hsm.model import KeySpec, Purpose, Scheme
from kms.hsm.public import spki_of, verify_proof
from kms.hsm.templates import throwaway
from kms.hsm.vectors import failed, must

_NO_READABLE: Final = (
    p11.TemplateInconsistent,
    p11.AttributeValueInvalid,
    p11.AttributeReadOnly,
    p11.AttributeSensitive,
)


class Bench:
    """Throwaway keys in one session, destroyed at the end."""

    def __init__(self, connection: Connection, session: Any) -> None:
        self.connection = connection
        self.session = session
        self.made: list[int] = []

    def secret(
        self, key_type: KeyType, mechanism: Mechanism, *uses: Attribute, bits: int = 256
    ) -> tuple[int, bytes | None]:
        """A key and, where the token lets us read it, its bytes."""
        for readable in (True, False):
            template = throwaway(*uses, readable=readable)
            try:
                key = self.session.generate_key(
                    key_type, bits, capabilities=0, mechanism=mechanism, template=template
                )
                self.made.append(key.handle)
                return int(key.handle), bytes(key[Attribute.VALUE]) if readable else None
            except _NO_READABLE:
                continue
        raise failed(f"the token makes no key with {mechanism.name}")

    def pair(self, spec: KeySpec) -> tuple[int, bytes]:
        """A signing pair: the private handle and the public key."""
        secret, public = objects.make(self.session, Purpose.KEY_SIGN, spec, token=False, cka_id=b"", label="")
        self.made += [secret.handle, public.handle]
        return int(secret.handle), spki_of(public, spec)

    def close(self) -> None:
        self.connection.destroy_idle(self.session, self.made)


def token(connection: Connection, session: Any, *, thorough: bool = False) -> list[str]:
    """Test what the token can do; returns a line for each thing tested.

    Raises:
        KmsError(HSM_UNAVAILABLE): an answer is wrong.
    """
    first, second = session.generate_random(256), session.generate_random(256)
    must(first != second and any(first), "the token's random generator repeats itself")
    report = ["random: two draws differ"]
    connection.prove_alive(session)
    bench = Bench(connection, session)
    try:
        if Mechanism.AES_GCM in connection.mechanisms:
            report.append(_gcm(bench))
        if Mechanism.SHA256_HMAC in connection.mechanisms:
            report.append(_hmac(bench))
        if connection.kwp is not None:
            report.append(_kwp(bench))
        if Mechanism.ECDSA in connection.mechanisms:
            report.append(_pair(bench, KeySpec.EC_P256, Scheme.ECDSA))
        if Mechanism.EDDSA in connection.mechanisms:
            report.append(_pair(bench, KeySpec.ED25519, Scheme.EDDSA))
        if thorough and Mechanism.RSA_PKCS in connection.mechanisms:
            report.append(_pair(bench, KeySpec.RSA_2048, Scheme.RSA_PKCS1_SHA256))
    finally:
        bench.close()
    return report


def _how(value: bytes | None) -> str:
    return "round trip only (the token makes no readable keys)" if value is None else "compared with software"


def _gcm(bench: Bench) -> str:
    key, value = bench.secret(KeyType.AES, Mechanism.AES_KEY_GEN, Attribute.ENCRYPT, Attribute.DECRYPT)
    nonce, plain, aad = secrets.token_bytes(12), secrets.token_bytes(37), b"self-test"
    try:
        sealed = rawops.encrypt(bench.session, key, nonce, plain, aad)
    except LOST:
        raise
    except p11.PKCS11Error as error:
        # NSS lists it and refuses it; some HSMs insist on IVs of their own. Whoever needs it is told its name.
        bench.connection.mechanisms -= {Mechanism.AES_GCM}
        return f"AES-GCM: listed, but refused with an IV of ours ({name_of(error)}), not used"
    if value is not None:
        must(sealed == AESGCM(value).encrypt(nonce, plain, aad), "the token's AES-GCM differs from software")
    must(rawops.decrypt(bench.session, key, nonce, sealed, aad) == plain, "the token's AES-GCM round trip")
    try:
        rawops.decrypt(bench.session, key, nonce, sealed[:-1] + bytes([sealed[-1] ^ 1]), aad)
    except p11.PKCS11Error:
        return f"AES-GCM: {_how(value)}, wrong tag refused"
    raise failed("the token accepts a wrong GCM tag")


def _hmac(bench: Bench) -> str:
    key, value = bench.secret(
        KeyType.GENERIC_SECRET, Mechanism.GENERIC_SECRET_KEY_GEN, Attribute.SIGN, Attribute.VERIFY, bits=512
    )
    names = [name for name, (mechanism, _) in HMACS.items() if mechanism in bench.connection.mechanisms]
    for name in names:
        tag = rawops.mac(bench.session, key, *HMACS[name], b"self-test")
        if value is not None:
            must(
                tag == hmac.digest(value, b"self-test", name.replace("-", "_")),
                f"HMAC {name} differs from software",
            )
        must(tag == rawops.mac(bench.session, key, *HMACS[name], b"self-test"), f"HMAC {name} varies")
        must(tag != rawops.mac(bench.session, key, *HMACS[name], b"self-tesu"), f"HMAC {name} is constant")
    return f"HMAC {', '.join(names)}: {_how(value)}"


def _kwp(bench: Bench) -> str:
    """The first time, this also settles which of two mechanism numbers is RFC 5649 on this token, if any."""
    connection = bench.connection
    root, kek = bench.secret(KeyType.AES, Mechanism.AES_KEY_GEN, Attribute.WRAP, Attribute.UNWRAP)
    key, value = bench.secret(KeyType.AES, Mechanism.AES_KEY_GEN, Attribute.ENCRYPT)
    offered = [m for m in KWP_CANDIDATES if m in connection.mechanisms]
    for mechanism in [m for m in offered if m is connection.kwp or not connection.kwp_settled]:
        try:
            blob = rawops.wrap(bench.session, root, key, mechanism)
        except LOST:
            raise
        except p11.PKCS11Error:
            continue
        if kek is None or value is None or blob == aes_key_wrap_with_padding(kek, value):
            connection.kwp, connection.kwp_settled = mechanism, True
            return f"AES-KWP as {mechanism.name}: {_how(value)}"
    must(not connection.kwp_settled, "the token's AES-KWP differs from software")
    connection.kwp, connection.kwp_settled = None, True  # such a token gets resident keys only
    return "AES-KWP: the token means something else by it, not used"


def _pair(bench: Bench, spec: KeySpec, scheme: Scheme) -> str:
    key, spki = bench.pair(spec)
    mechanism, parameter, payload, size = sign_call(spec, scheme, hashlib.sha256(b"self-test").digest(), None)
    signature = rawops.sign(bench.session, key, mechanism, parameter, payload, size)
    digest = hashlib.sha256(b"self-test").digest()
    must(
        len(signature) <= size and verify_proof(spki, spec, digest, signature),
        f"the token's {scheme} does not verify",
    )
    wrong = bytes([digest[0] ^ 1]) + digest[1:]
    must(not verify_proof(spki, spec, wrong, signature), f"{scheme} verification accepts another message")
    return f"{scheme} ({SPECS[spec].generate.name}): verified in software"
