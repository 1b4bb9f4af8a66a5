"""AES-GCM, ChaCha20-Poly1305, AES-KW and KWP, HMAC, CMAC."""

from __future__ import annotations

import re

from tests.vectors.cases import REFUSED, Case, Excluded, Key, Read, b64, sealed
from tests.vectors.files import Record, cavp, counted

NONCE_IS_OURS = "encrypts with a nonce that the vector chooses: its ciphertext is decrypted instead"


def gcm(path: str) -> Read:
    """NIST CAVP: both directions are decrypted, as the server chooses every nonce itself."""
    bits = re.findall(r"(\d+)\.rsp", path)[0]
    for number, record in enumerate(cavp(path)):
        where = f"{number}"
        if bits == "192":
            yield Excluded(where, "there is no key type with AES-192-GCM")
        elif record["IVlen"] != "96":
            yield Excluded(where, "nonce is not 96 bits")
        elif record["Taglen"] != "128":
            yield Excluded(where, "tag is not 128 bits")
        else:
            data = bytes.fromhex(record["IV"] + record["CT"] + record["Tag"])
            item = {"ciphertext": sealed(data), "associated_data": b64(bytes.fromhex(record["AAD"]))}
            expect = REFUSED if "FAIL" in record else b64(bytes.fromhex(record["PT"]))
            key = Key(f"aes{bits}-gcm96", bytes.fromhex(record["Key"]))
            yield Case(where, key, "decrypt", item, expect)


def chacha(path: str) -> Read:
    """BoringSSL's and RFC 8439's."""
    for number, record in enumerate(counted(path)):
        if len(record["TAG"]) != 32:
            yield Excluded(f"{number}", "tag is not 128 bits")
            continue
        data = b"".join(_bytes(record[name]) for name in ("NONCE", "CT", "TAG"))
        item = {"ciphertext": sealed(data), "associated_data": b64(_bytes(record["AD"]))}
        yield Case(
            f"{number}",
            Key("chacha20-poly1305", bytes.fromhex(record["KEY"])),
            "decrypt",
            item,
            b64(_bytes(record["IN"])),
        )


def _bytes(text: str) -> bytes:
    return text[1:-1].encode() if text.startswith('"') else bytes.fromhex(text)


def key_wrap(path: str) -> Read:
    """SP 800-38F: AE wraps to exactly these bytes, AD unwraps or is refused."""
    padded, bits = "KWP" in path, re.findall(r"_(\d+)", path)
    for number, record in enumerate(cavp(path)):
        where = f"{number}"
        if "_inv" in path:
            yield Excluded(where, "KW with the inverse cipher function, which no API offers")
        elif not bits:
            yield Excluded(where, "triple DES")
        else:
            yield _wrapping(
                where, record, Key(f"aes{bits[0]}-kwp", bytes.fromhex(record["K"])), padded, "_AE_" in path
            )


def _wrapping(where: str, record: Record, key: Key, padded: bool, wraps: bool) -> Case:
    common = (("padding", padded),)
    plain = b64(bytes.fromhex(record["P"])) if "P" in record else REFUSED
    wrapped = sealed(bytes.fromhex(record["C"]))
    if wraps:
        return Case(where, key, "wrap", {"plaintext": plain}, wrapped, common=common)
    return Case(where, key, "unwrap", {"ciphertext": wrapped}, plain, common=common)


def hmac(path: str) -> Read:
    """RFC 4231, whose seventh-odd vectors are cut short."""
    name = re.findall(r"sha(\d+)", path)[0]
    hash_name = "sha1" if name == "1" else f"sha2-{name}"
    for number, record in enumerate(cavp(path)):
        where = f"{number}"
        secret = bytes.fromhex(record.get("Key", ""))
        if "MD" not in record:
            yield Excluded(where, "no vector but a heading")
        elif len(secret) < 32:
            yield Excluded(where, "the key is shorter than the API's 32 bytes")
        elif len(record["MD"]) < 40:
            yield Excluded(where, "the output is cut short, which the API does not do")
        else:
            item = {"input": b64(bytes.fromhex(record["Msg"]))}
            expect = sealed(bytes.fromhex(record["MD"]))
            yield Case(where, Key("hmac", secret), "hmac", item, expect, path=f"/{hash_name}")


def cmac(path: str) -> Read:
    """SP 800-38B appendix D."""
    bits = re.findall(r"aes(\d+)", path)
    for number, record in enumerate(cavp(path)):
        if not bits:
            yield Excluded(f"{number}", "triple DES")
            continue
        item = {"input": b64(bytes.fromhex(record["MESSAGE"]))}
        key = Key(f"aes{bits[0]}-cmac", bytes.fromhex(record["KEY"]))
        yield Case(f"{number}", key, "cmac", item, sealed(bytes.fromhex(record["OUTPUT"])))
