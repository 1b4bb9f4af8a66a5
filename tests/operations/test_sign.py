"""sign and verify: parameter tables, and every signature checked by an independent verifier."""

from __future__ import annotations

from base64 import b64decode, b64encode, urlsafe_b64decode
from hashlib import new as new_hash
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from kms.errors import ErrorKind, KmsError
from tests.keys.rig import Rig

MESSAGE = b"hello"
P = b64encode(MESSAGE).decode()
HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303  (the API offers it to old verifiers)
    "sha2-224": hashes.SHA224(),
    "sha2-256": hashes.SHA256(),
    "sha2-384": hashes.SHA384(),
    "sha2-512": hashes.SHA512(),
    "sha3-224": hashes.SHA3_224(),
    "sha3-256": hashes.SHA3_256(),
    "sha3-384": hashes.SHA3_384(),
    "sha3-512": hashes.SHA3_512(),
}
NOT_IN_SOFTHSM_PSS = {"sha1", "sha3-224", "sha3-256", "sha3-384", "sha3-512"}


def refused(rig: Rig, operation: str, **args: Any) -> str:
    with pytest.raises(KmsError) as caught:
        rig.run(operation, **args)
    assert caught.value.kind is ErrorKind.INVALID
    return caught.value.detail


def raw(signature: str) -> bytes:
    return b64decode(signature.split(":")[2], validate=True)


def public_pem(rig: Rig, name: str) -> Any:
    keys = rig.run("keys.read", name=name)["keys"]
    return load_pem_public_key(keys["1"]["public_key"].encode())


@pytest.fixture
def signing(rig: Rig) -> Rig:
    """Software keys: p256, p384, ed, rsa, aes, mac."""
    for name, type_ in (
        ("p256", "ecdsa-p256"),
        ("p384", "ecdsa-p384"),
        ("ed", "ed25519"),
        ("rsa", "rsa-2048"),
        ("aes", "aes256-gcm96"),
        ("mac", "hmac"),
    ):
        rig.create(name, type_, protection="software")
    return rig


SIGN_REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("none", {}, "signing key not found"),
    ("aes", {}, "key type aes256-gcm96 does not support signing"),
    ("mac", {}, "key type hmac does not support signing"),
    ("p256", {"input": "!!"}, "unable to decode input as base64: illegal base64 data at input byte 0"),
    ("p256", {"urlalgorithm": "bogus"}, 'invalid hash algorithm "bogus"'),
    ("ed", {"hash_algorithm": "bogus"}, 'invalid hash algorithm "bogus"'),
    (
        "p256",
        {"hash_algorithm": "none"},
        "hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15",
    ),
    (
        "rsa",
        {"hash_algorithm": "none", "prehashed": True},
        "hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15",
    ),
    (
        "p256",
        {"hash_algorithm": "none", "prehashed": True, "signature_algorithm": "pkcs1v15"},
        "hash_algorithm=none is for RSA keys; name the hash that made the digest",
    ),
    ("p256", {"marshaling_algorithm": "bogus"}, 'invalid marshaling type "bogus"'),
    ("rsa", {"signature_algorithm": "bogus"}, "unsupported rsa signature algorithm bogus"),
    ("rsa", {"salt_length": "bogus"}, "salt length neither 'auto', 'hash', nor an int: bogus"),
    ("ed", {"salt_length": ""}, "salt length neither 'auto', 'hash', nor an int: "),
    ("rsa", {"salt_length": "-2"}, "salt length is invalid: -2"),
    ("rsa", {"salt_length": "999"}, "requested salt length 999 is invalid"),
    ("p256", {"prehashed": True}, "prehashed input must be the 32 bytes of a digest, but has 5"),
    ("rsa", {"prehashed": True}, "prehashed input must be the 32 bytes of a digest, but has 5"),
    (
        "rsa",
        {
            "prehashed": True,
            "signature_algorithm": "pkcs1v15",
            "hash_algorithm": "none",
            "input": b64encode(bytes(246)).decode(),
        },
        "the input is too long for this RSA key",
    ),
    ("p256", {"key_version": 9}, "requested version for signing is higher than the latest key version"),
    ("p256", {"key_version": -1}, "requested version for signing is negative"),
    ("p256", {"batch_input": []}, "missing batch input to process"),
]


@pytest.mark.parametrize(("name", "args", "text"), SIGN_REFUSED)
def test_sign_refuses(signing: Rig, name: str, args: dict[str, Any], text: str) -> None:
    assert refused(signing, "sign", **{"name": name, "input": P, **args}) == text


GOOD64 = b64encode(bytes(64)).decode()
VERIFY_REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("p256", {}, "neither a 'signature' nor an 'hmac' were given to verify"),
    ("none", {"signature": "x"}, "signature verification key not found"),
    ("aes", {"signature": "x"}, "key type aes256-gcm96 does not support verification"),
    ("mac", {"signature": "x"}, "key type hmac does not support verification"),
    ("p256", {"signature": ""}, "invalid signature: no prefix"),
    ("p256", {"signature": "x"}, "invalid signature: no prefix"),
    ("p256", {"signature": "vault:v1"}, "invalid signature: wrong number of fields"),
    ("p256", {"signature": "vault:vx:a"}, "invalid signature: version number could not be decoded"),
    ("p256", {"signature": "vault:v9:aGVs"}, "invalid signature: version is too new"),
    (
        "p256",
        {"signature": "vault:v0:aGVs"},
        "ciphertext or signature version is disallowed by policy (too old)",
    ),
    ("p256", {"signature": "vault:v1:!!"}, "invalid base64 signature value"),
    ("p256", {"signature": "vault:v1:"}, "supplied signature is invalid"),
    ("p256", {"signature": "vault:v1:aGVs"}, "supplied signature is invalid"),
    (
        "p256",
        {"signature": "vault:v1:aGVsbG8=", "marshaling_algorithm": "jws"},
        "invalid base64 signature value",
    ),
    ("p256", {"signature": "vault:v1:aGVs", "urlalgorithm": "bogus"}, 'invalid hash algorithm "bogus"'),
    ("rsa", {"signature": "vault:v1:aGVs", "salt_length": "999"}, "requested salt length 999 is invalid"),
    ("aes", {"hmac": "x"}, "invalid HMAC to verify: no prefix"),
    ("aes", {"hmac": "vault:v1"}, "invalid HMAC: wrong number of fields"),
    ("aes", {"hmac": "vault:v9:aGVs"}, "invalid HMAC: version is too new"),
    ("aes", {"hmac": "vault:v0:aGVs"}, "cannot verify HMAC: version is too old (disallowed by policy)"),
    (
        "aes",
        {"hmac": "vault:v1:!!"},
        "unable to decode verification HMAC as base64: illegal base64 data at input byte 0",
    ),
    ("aes", {"hmac": "vault:v1:aGVs", "hash_algorithm": "none"}, "algorithm cannot be none"),
    ("aes", {"hmac": "vault:v1:aGVs", "algorithm": "bogus"}, 'invalid hash algorithm "bogus"'),
    (
        "p256",
        {"batch_input": [{"input": P, "signature": "x"}, {"input": P, "hmac": "x"}]},
        "elements of batch_input must all provide 'signature' or all provide 'hmac'",
    ),
    ("p256", {"batch_input": [{"input": P}]}, "no batch_input elements have 'signature' or 'hmac'"),
    ("p256", {"batch_input": []}, "missing batch input to process"),
]


@pytest.mark.parametrize(("name", "args", "text"), VERIFY_REFUSED)
def test_verify_refuses(signing: Rig, name: str, args: dict[str, Any], text: str) -> None:
    assert refused(signing, "verify", **{"name": name, "input": P, **args}) == text


NOT_VALID: list[tuple[str, dict[str, Any]]] = [
    ("p256", {"signature": f"vault:v1:{b64encode(bytes.fromhex('3006020101020101')).decode()}"}),
    ("p256", {"signature": "vault:v1:aGVs", "marshaling_algorithm": "jws"}),
    ("ed", {"signature": "vault:v1:aGVs"}),
    ("ed", {"signature": "vault:v1:"}),
    ("ed", {"signature": f"vault:v1:{GOOD64}"}),
    ("rsa", {"signature": "vault:v1:aGVs"}),
    ("rsa", {"signature": "vault:v1:"}),
    ("rsa", {"signature": "vault:v1:aGVs", "signature_algorithm": "pkcs1v15"}),
    (
        "rsa",
        {
            "signature": "vault:v1:aGVs",
            "signature_algorithm": "pkcs1v15",
            "prehashed": True,
            "hash_algorithm": "none",
        },
    ),
    ("aes", {"hmac": "vault:v1:aGVs"}),
    ("mac", {"hmac": f"vault:v1:{GOOD64}"}),
]


@pytest.mark.parametrize(("name", "args"), NOT_VALID)
def test_a_signature_that_is_none_is_not_valid(signing: Rig, name: str, args: dict[str, Any]) -> None:
    assert signing.run("verify", name=name, input=P, **args) == {"valid": False}


# -- signatures against an independent verifier ------------------------------------------------------


@pytest.mark.parametrize("protection", ["software", "hsm"])
@pytest.mark.parametrize("type_", ["ecdsa-p256", "ecdsa-p384"])
def test_ecdsa_signatures_verify_elsewhere(hsm_rig: Rig, type_: str, protection: str) -> None:
    hsm_rig.create("k", type_, protection=protection)
    public = public_pem(hsm_rig, "k")
    assert isinstance(public, ec.EllipticCurvePublicKey)
    size = public.key_size // 8
    for name, algorithm in HASHES.items():
        given: dict[str, Any] = {"name": "k", "input": P, "hash_algorithm": name}
        der = hsm_rig.run("sign", **given)
        public.verify(raw(der["signature"]), MESSAGE, ec.ECDSA(algorithm))
        assert hsm_rig.run("verify", signature=der["signature"], **given) == {"valid": True}
        jws = hsm_rig.run("sign", marshaling_algorithm="jws", **given)["signature"]
        text = jws.split(":")[2]
        both = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        assert len(both) == 2 * size
        r, s = (int.from_bytes(half, "big") for half in (both[:size], both[size:]))
        public.verify(utils.encode_dss_signature(r, s), MESSAGE, ec.ECDSA(algorithm))
        assert hsm_rig.run("verify", signature=jws, marshaling_algorithm="jws", **given) == {"valid": True}
        digest = b64encode(new_hash(algorithm.name.replace("-", "_"), MESSAGE).digest()).decode()
        pre = hsm_rig.run("sign", **{**given, "input": digest}, prehashed=True)["signature"]
        public.verify(raw(pre), MESSAGE, ec.ECDSA(algorithm))


@pytest.mark.parametrize("protection", ["software", "hsm"])
def test_ed25519_signatures_verify_elsewhere(hsm_rig: Rig, protection: str) -> None:
    data = hsm_rig.create("k", "ed25519", protection=protection)
    public = Ed25519PublicKey.from_public_bytes(b64decode(data["keys"]["1"]["public_key"]))
    for options in ({}, {"prehashed": True}, {"hash_algorithm": "none"}, {"signature_algorithm": "bogus"}):
        signature = hsm_rig.run("sign", name="k", input=P, **options)["signature"]
        public.verify(raw(signature), MESSAGE)
        assert hsm_rig.run("verify", name="k", input=P, signature=signature) == {"valid": True}
        wrong = b64encode(b"other").decode()
        assert hsm_rig.run("verify", name="k", input=wrong, signature=signature) == {"valid": False}


@pytest.mark.parametrize("protection", ["software", "hsm"])
def test_rsa_signatures_verify_elsewhere(hsm_rig: Rig, protection: str) -> None:
    hsm_rig.create("k", "rsa-2048", protection=protection)
    public = public_pem(hsm_rig, "k")
    assert isinstance(public, rsa.RSAPublicKey)
    for name, algorithm in HASHES.items():
        given: dict[str, Any] = {"name": "k", "input": P, "hash_algorithm": name}
        pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
        if protection == "hsm" and name in NOT_IN_SOFTHSM_PSS:
            assert "cannot sign with this hash_algorithm" in refused(hsm_rig, "sign", **given)
            continue
        for salt in ("auto", "hash", "20"):
            signature = hsm_rig.run("sign", salt_length=salt, **given)["signature"]
            public.verify(raw(signature), MESSAGE, pss, algorithm)
            assert hsm_rig.run("verify", signature=signature, **given) == {"valid": True}
        old = hsm_rig.run("sign", signature_algorithm="pkcs1v15", **given)["signature"]
        public.verify(raw(old), MESSAGE, padding.PKCS1v15(), algorithm)
        assert hsm_rig.run("verify", signature=old, signature_algorithm="pkcs1v15", **given) == {
            "valid": True
        }
        assert hsm_rig.run("verify", signature=old, **given) == {"valid": False}


@pytest.mark.parametrize("protection", ["software", "hsm"])
def test_rsa_may_sign_bytes_as_they_are(hsm_rig: Rig, protection: str) -> None:
    hsm_rig.create("k", "rsa-2048", protection=protection)
    given = {
        "name": "k",
        "input": P,
        "hash_algorithm": "none",
        "prehashed": True,
        "signature_algorithm": "pkcs1v15",
    }
    signature = hsm_rig.run("sign", **given)["signature"]
    public = public_pem(hsm_rig, "k")
    assert public.recover_data_from_signature(raw(signature), padding.PKCS1v15(), None) == MESSAGE
    assert hsm_rig.run("verify", signature=signature, **given) == {"valid": True}
    other = {**given, "input": b64encode(b"other").decode()}
    assert hsm_rig.run("verify", signature=signature, **other) == {"valid": False}


def test_the_salt_is_as_long_as_was_asked(signing: Rig) -> None:
    public = public_pem(signing, "rsa")
    for text, length in (("20", 20), ("hash", 32), ("-1", 32), ("auto", 222), ("0", 222)):
        signature = signing.run("sign", name="rsa", input=P, salt_length=text)["signature"]
        exact = padding.PSS(padding.MGF1(hashes.SHA256()), length)
        public.verify(raw(signature), MESSAGE, exact, hashes.SHA256())
        with pytest.raises(InvalidSignature):
            public.verify(
                raw(signature), MESSAGE, padding.PSS(padding.MGF1(hashes.SHA256()), 19), hashes.SHA256()
            )
    short = signing.run("sign", name="rsa", input=P, salt_length="20")["signature"]
    verify = {"name": "rsa", "input": P, "signature": short}
    assert signing.run("verify", salt_length="hash", **verify) == {"valid": False}
    assert signing.run("verify", salt_length="20", **verify) == {"valid": True}


def test_the_algorithm_in_the_path_wins(signing: Rig) -> None:
    args = {"urlalgorithm": "sha2-512", "hash_algorithm": "sha2-256", "algorithm": "sha1"}
    signature = signing.run("sign", name="p256", input=P, **args)["signature"]
    public_pem(signing, "p256").verify(raw(signature), MESSAGE, ec.ECDSA(hashes.SHA512()))


def test_an_empty_input_is_signed(signing: Rig) -> None:
    signature = signing.run("sign", name="ed")["signature"]
    assert signing.run("verify", name="ed", signature=signature) == {"valid": True}


def test_old_versions_verify_until_the_minimum_rises(signing: Rig) -> None:
    old = signing.run("sign", name="p256", input=P)["signature"]
    signing.run("keys.rotate", name="p256")
    assert signing.run("sign", name="p256", input=P)["key_version"] == 2
    assert signing.run("sign", name="p256", input=P, key_version=1)["key_version"] == 1
    assert signing.run("verify", name="p256", input=P, signature=old) == {"valid": True}
    relabelled = old.replace("vault:v1:", "vault:v2:")
    assert signing.run("verify", name="p256", input=P, signature=relabelled) == {"valid": False}
    signing.run("keys.config", name="p256", min_decryption_version=2)
    assert "too old" in refused(signing, "verify", name="p256", input=P, signature=old)


# -- batches --------------------------------------------------------------------------------------------


def test_a_sign_batch_answers_item_by_item(signing: Rig) -> None:
    items = [{"input": P, "reference": "x"}, {"input": "!!", "reference": "y"}, {}, {"input": 5}]
    result = signing.result("sign", name="p256", batch_input=items)
    assert not result.partial
    first, *others = (result.data or {})["batch_results"]
    assert (first["key_version"], first["reference"]) == (1, "x")
    undecodable = "unable to decode input as base64: illegal base64 data at input byte 0"
    assert others == [
        {"key_version": 0, "error": undecodable, "reference": "y"},
        {"key_version": 0, "error": "missing input", "reference": ""},
        {"key_version": 0, "error": undecodable, "reference": ""},
    ]


def test_a_verify_batch_answers_item_by_item(signing: Rig) -> None:
    signature = signing.run("sign", name="p256", input=P)["signature"]
    items = [
        {"input": P, "signature": signature, "reference": "x"},
        {"input": "!!", "signature": signature},
        {"input": P, "signature": "x"},
        {"signature": signature},
    ]
    undecodable = "unable to decode input as base64: illegal base64 data at input byte 0"
    assert signing.run("verify", name="p256", batch_input=items)["batch_results"] == [
        {"valid": True, "reference": "x"},
        {"valid": False, "error": undecodable, "reference": ""},
        {"valid": False, "error": "invalid signature: no prefix", "reference": ""},
        {"valid": False, "error": "missing input", "reference": ""},
    ]
    mac = signing.run("hmac", name="p256", input=P)["hmac"]
    items = [{"input": P, "hmac": mac}, {"input": P, "hmac": "x"}]
    assert signing.run("verify", name="p256", batch_input=items)["batch_results"] == [
        {"valid": True, "reference": ""},
        {"error": "invalid HMAC to verify: no prefix", "reference": ""},
    ]
