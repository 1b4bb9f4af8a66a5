"""ECDSA, Ed25519, RSA (PKCS#1 v1.5, PSS, OAEP) and ML-DSA."""

from __future__ import annotations

import re
from itertools import count
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, mldsa, rsa, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.vectors.cases import REFUSED, Case, Excluded, Key, Read, b64, sealed
from tests.vectors.files import cavp, counted, examples, lines

CURVES: dict[str, tuple[str, ec.EllipticCurve]] = {
    "P-256": ("ecdsa-p256", ec.SECP256R1()),
    "P-384": ("ecdsa-p384", ec.SECP384R1()),
    "P-521": ("ecdsa-p521", ec.SECP521R1()),
    "K-256": ("ecdsa-secp256k1", ec.SECP256K1()),
}
HASHES = {"1": "sha1", "224": "sha2-224", "256": "sha2-256", "384": "sha2-384", "512": "sha2-512"}
RSA_SIZES = (2048, 3072, 4096)
NO_CURVE = "no key type has this curve"
NO_SIZE = "RSA keys here have 2048, 3072 or 4096 bits"


def pem_of(der: bytes) -> str:
    """SubjectPublicKeyInfo in PEM, whether it means anything or not."""
    return f"-----BEGIN PUBLIC KEY-----\n{b64(der)}\n-----END PUBLIC KEY-----\n"


def _point(curve: ec.EllipticCurve, x: str, y: str) -> str | None:
    """A public key in PEM, on the curve or not; None when a coordinate does not fit the form."""
    good = ec.generate_private_key(curve).public_key()
    der = good.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    size = (curve.key_size + 7) // 8
    numbers = [int(text, 16) for text in (x, y)]
    if max(numbers).bit_length() > size * 8:
        return None
    return pem_of(der[: -2 * size] + b"".join(number.to_bytes(size, "big") for number in numbers))


def _hash(text: str) -> str:
    return HASHES[re.findall(r"SHA-?(\d+)", text)[0]]


def ecdsa(path: str) -> Read:
    """CAVP SigVer (good and bad) and SigGen (good)."""
    for number, record in enumerate(cavp(path)):
        where = f"{number}"
        title = next(name for name in record if "SHA" in name)
        curve_name, _, sha = title.partition(",")
        if curve_name not in CURVES:
            yield Excluded(where, NO_CURVE)
            continue
        type_, curve = CURVES[curve_name]
        pem = _point(curve, record["Qx"], record["Qy"])
        if pem is None:
            yield Excluded(where, "a coordinate does not fit the encoding of a point")
            continue
        good = record.get("Result", "P").startswith("P")
        signature = utils.encode_dss_signature(int(record["R"], 16), int(record["S"], 16))
        item = {"input": b64(bytes.fromhex(record["Msg"])), "signature": sealed(signature)}
        yield Case(where, Key(type_, public=pem), "verify", item, good or REFUSED, path=f"/{_hash(sha)}")


def points(path: str) -> Read:
    """CAVP PKV: points that are on the curve are imported, others are not."""
    for number, record in enumerate(cavp(path)):
        curve_name = next(name for name in record if name[:2] in ("P-", "K-", "B-"))
        if curve_name not in CURVES:
            yield Excluded(f"{number}", NO_CURVE)
            continue
        type_, curve = CURVES[curve_name]
        pem = _point(curve, record["Qx"], record["Qy"])
        if pem is None:
            yield Excluded(f"{number}", "a coordinate does not fit the encoding of a point")
            continue
        good = record["Result"].startswith("P")
        yield Case(f"{number}", Key(type_, public=pem), "import", {}, "imported" if good else REFUSED)


def ed25519(path: str) -> Read:
    """RFC 8032's authors' file: sign gives exactly these bytes."""
    for number, line in enumerate(lines(path)):
        secret, public, message, signed = line.split(":")[:4]
        private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret)[:32])
        if private.public_key().public_bytes_raw().hex() != public:
            raise ValueError(path)
        key = Key("ed25519", private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
        item = {"input": b64(bytes.fromhex(message))}
        yield Case(f"{number}", key, "sign", item, sealed(bytes.fromhex(signed)[:64]))


def _rsa_public(n: str, e: str) -> tuple[int, str]:
    modulus, exponent = int(n, 16), int(e, 16)
    bits = modulus.bit_length()
    der = _spki(modulus, exponent)
    return bits, pem_of(der)


def _spki(n: int, e: int) -> bytes:
    """SubjectPublicKeyInfo by hand, since the vectors have exponents that no library makes."""

    def tlv(tag: int, body: bytes) -> bytes:
        size = len(body)
        length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
        return bytes([tag]) + length + body

    def integer(value: int) -> bytes:
        return tlv(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))

    key = tlv(0x30, integer(n) + integer(e))
    algorithm = tlv(0x30, tlv(6, bytes.fromhex("2a864886f70d010101")) + b"\5\0")
    return tlv(0x30, algorithm + tlv(3, b"\0" + key))


def rsa_signatures(path: str) -> Read:
    """CAVP SigGen and SigVer of PKCS#1 v1.5 and PSS."""
    scheme = "pss" if "PSS" in path else "pkcs1v15"
    for number, record in enumerate(cavp(path, sticky=frozenset({"n", "e", "p", "q", "d"}))):
        where = f"{number}"
        bits, pem = _rsa_public(record["n"], record["e"])
        if bits not in RSA_SIZES:
            yield Excluded(where, NO_SIZE)
            continue
        common: list[tuple[str, Any]] = [("signature_algorithm", scheme)]
        if scheme == "pss":
            salt = record.get("SaltVal", "")
            common.append(("salt_length", str(len(salt) // 2) if len(salt) > 2 else "auto"))
        good = record.get("Result", "P").startswith("P")
        item = {"input": b64(bytes.fromhex(record["Msg"])), "signature": sealed(bytes.fromhex(record["S"]))}
        key = Key(f"rsa-{bits}", public=pem)
        path_ = f"/{_hash(record['SHAAlg'])}"
        yield Case(where, key, "verify", item, good or REFUSED, path=path_, common=tuple(common))


def oaep(path: str) -> Read:
    """RSA Laboratories' and pyca's: decrypted with the private key."""
    numbers = count()
    ours = path.endswith("oaep-sha256-sha256.txt")
    for key, messages in examples(path):
        for message in messages:
            where = f"{next(numbers)}"
            bits = int(key["modulus"], 16).bit_length()
            if not ours:
                yield Excluded(where, "OAEP here is SHA-256 with MGF1-SHA-256 and no label")
            elif bits not in RSA_SIZES:
                yield Excluded(where, NO_SIZE)
            else:
                item = {"ciphertext": sealed(bytes.fromhex(message["encryption"]))}
                expect = b64(bytes.fromhex(message["message"]))
                yield Case(where, Key(f"rsa-{bits}", _rsa_private(key)), "decrypt", item, expect)


def _rsa_private(key: dict[str, str]) -> bytes:
    n, e, d, p, q = (
        int(key[name], 16) for name in ("modulus", "public exponent", "exponent", "prime 1", "prime 2")
    )
    numbers = rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(e, n)
    )
    return numbers.private_key().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def x931(path: str) -> Read:
    """ANSI X9.31."""
    for number, _ in enumerate(cavp(path, sticky=frozenset({"n", "e", "p", "q", "d"}))):
        yield Excluded(f"{number}", "padding of ANSI X9.31, which the API does not have")


def ml_dsa(path: str) -> Read:
    """FIPS 204 known answers: `sm` is the signature and the message, made with a context."""
    level = re.findall(r"MLDSA_(\d+)_", path)[0]
    made: Any = {"44": mldsa.MLDSA44PrivateKey, "65": mldsa.MLDSA65PrivateKey, "87": mldsa.MLDSA87PrivateKey}[
        level
    ]
    for record in counted(path):
        private = made.from_seed_bytes(bytes.fromhex(record["xi"]))
        if private.public_key().public_bytes_raw().hex() != record["pk"]:
            raise ValueError(path)
        message, both = bytes.fromhex(record["msg"]), bytes.fromhex(record["sm"])
        signature = both[: len(both) - len(message)]
        key = Key(f"mldsa-{level}", private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
        common = (("signature_context", b64(bytes.fromhex(record["ctx"]))),)
        item = {"input": b64(message), "signature": sealed(signature)}
        yield Case(record["count"], key, "verify", item, True, common=common)
        wrong = {**item, "input": b64(message + b"\0")}
        yield Case(record["count"] + "+", key, "verify", wrong, REFUSED, common=common)
