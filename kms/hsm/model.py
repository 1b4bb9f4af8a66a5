"""The nouns of the HSM layer: what a key is, what it is for, and how it is referred to. Pure types."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from kms.ids import CkaId

# SoftHSM reads every object at each start, and a search goes through them all.
RESIDENT_LIMIT: Final = 1_000


class Seal(StrEnum):
    """The two mechanisms that a seal root may have."""

    AES_GCM = "aes-gcm"
    RSA_OAEP = "rsa-oaep"  # for tokens without AES-GCM, or that take no IV from us


@dataclass(frozen=True)
class HsmConfig:
    """Where the token is and how to log in to it.

    Args:
        module: the PKCS#11 shared object. May be OpenSC's pkcs11-spy.so; the spy takes the real
            module from the environment variable PKCS11SPY.
        token_label: exactly one token must carry it.
        pin_file: the user PIN, one line; not readable by everybody. Read at each login.
        softhsm2_conf: put into SOFTHSM2_CONF of this process before the module is loaded.
        seal: what new seal roots are; those that exist stay what they are.
        init_args: for modules that refuse C_Initialize(NULL): the string for CK_C_INITIALIZE_ARGS.pReserved.
        omit: guards that this token does not know, of "copyable" and "local"; doctor says that they are missing.
        exclude: mechanisms that the token lists and that are not used, by their CKM_ names.
        deadline_seconds: how long a caller waits for one call; 0: for ever, and no threads for it (deadline.py).
        resident_limit: how many keys of ours the token should hold at most, for doctor; hsm-config/README.md.
        environment: further variables that the module reads, put into this process's environment before it is loaded.
    """

    module: Path
    token_label: str
    pin_file: Path
    softhsm2_conf: Path | None = None
    seal: Seal = Seal.AES_GCM
    init_args: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    omit: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    deadline_seconds: int = 0
    resident_limit: int = RESIDENT_LIMIT

    @property
    def variables(self) -> dict[str, str]:
        """All that goes into the environment."""
        softhsm = {} if self.softhsm2_conf is None else {"SOFTHSM2_CONF": str(self.softhsm2_conf)}
        return {**softhsm, **dict(self.environment)}


@dataclass(frozen=True)
class TokenInfo:
    """What the token and the module say about themselves."""

    manufacturer: str
    model: str
    serial: str
    label: str
    firmware: str
    library: str
    os_locking: bool  # False: the module refused CKF_OS_LOCKING_OK, calls go one at a time (H1)


class KeySpec(StrEnum):
    """The closed table of key types. Callers choose one of these, never a mechanism."""

    AES_128 = "aes-128"
    AES_192 = "aes-192"  # for CMAC only
    AES_256 = "aes-256"
    HMAC = "hmac"  # 512-bit generic secret, for HMAC with any of our hashes
    EC_P256 = "ec-p256"
    EC_P384 = "ec-p384"
    EC_P521 = "ec-p521"
    ED25519 = "ed25519"
    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"

    @property
    def is_pair(self) -> bool:
        """True for key pairs, False for secret keys."""
        return self not in _SECRET_SPECS


_SECRET_SPECS = frozenset({KeySpec.AES_128, KeySpec.AES_192, KeySpec.AES_256, KeySpec.HMAC})


class Purpose(StrEnum):
    """What a key may do, for ever. One attribute template each, see templates.py."""

    ROOT_SEAL = "root-seal"  # seals the keyring terms; encrypt and decrypt, never unwrap
    ROOT_WRAP_ENC = "root-wrap-enc"  # wraps KEY_ENC keys; never encrypt or decrypt
    ROOT_WRAP_MAC = "root-wrap-mac"  # wraps KEY_MAC keys
    ROOT_WRAP_SIGN = "root-wrap-sign"  # wraps KEY_SIGN keys
    SENTINEL = "sentinel"  # a known key, by which "the token is there" is told from "no such key"
    LOG_SIGN = "log-sign"
    CA_SIGN = "ca-sign"
    KEY_ENC = "key-enc"
    KEY_MAC = "key-mac"
    KEY_SIGN = "key-sign"
    KEY_CMAC = "key-cmac"  # AES keys that MAC; always resident, as no root wraps them
    KEY_DECRYPT = "key-decrypt"  # RSA keys that decrypt (OAEP) and never sign; always resident
    KEY_AGREE = "key-agree"  # EC keys that agree on secrets (ECDH) and never sign; always resident
    IMPORT_UNWRAP = "import-unwrap"  # the RSA pair that callers wrap keys of their own for
    ROOT_SEAL_RSA = "root-seal-rsa"  # what ROOT_SEAL is where the token has no AES-GCM: decrypts
    ROOT_SEAL_SIGN = "root-seal-sign"  # signs what is sealed to ROOT_SEAL_RSA: anybody could encrypt to it
    SENTINEL_RSA = "sentinel-rsa"  # what SENTINEL is where the token has no AES-GCM: signs


class Scheme(StrEnum):
    """How to sign, and what `payload` is.

    ECDSA takes a digest (1 to 64 bytes; longer than the curve's order it is cut as FIPS 186-5 6.4.1
    says) and returns r || s. EDDSA takes the message (RFC 8032, pure). The RSA schemes take the digest
    of the named hash; RSA_PKCS1_NONE takes bytes that are padded as they are (RFC 8017 9.2 steps 3-5).
    """

    ECDSA = "ecdsa"
    EDDSA = "eddsa"
    RSA_PKCS1_NONE = "rsa-pkcs1-none"
    RSA_PKCS1_SHA224 = "rsa-pkcs1-sha224"
    RSA_PKCS1_SHA256 = "rsa-pkcs1-sha256"
    RSA_PKCS1_SHA384 = "rsa-pkcs1-sha384"
    RSA_PKCS1_SHA512 = "rsa-pkcs1-sha512"
    RSA_PKCS1_SHA3_224 = "rsa-pkcs1-sha3-224"
    RSA_PKCS1_SHA3_256 = "rsa-pkcs1-sha3-256"
    RSA_PKCS1_SHA3_384 = "rsa-pkcs1-sha3-384"
    RSA_PKCS1_SHA3_512 = "rsa-pkcs1-sha3-512"
    RSA_PSS_SHA224 = "rsa-pss-sha224"
    RSA_PSS_SHA256 = "rsa-pss-sha256"
    RSA_PSS_SHA384 = "rsa-pss-sha384"
    RSA_PSS_SHA512 = "rsa-pss-sha512"


@dataclass(frozen=True)
class Resident:
    """A key that lives in the token as a token object.

    Args:
        imported: it was unwrapped there, not born: others may know it.
    """

    cka_id: CkaId
    purpose: Purpose
    spec: KeySpec
    imported: bool = False


@dataclass(frozen=True)
class Wrapped:
    """A key that was born in the token and lives outside it as a blob only the token can open.

    Args:
        wrapping: CKA_ID of the resident wrapping key.
        blob: AES-KWP (RFC 5649) of the key, made inside the token.
        probe: made with the key itself at birth; ties the blob to `context`, see probe.py.
        context: what the key is, composed by the caller (instance, key id, version, ...).
        public: SubjectPublicKeyInfo in DER for pairs, else empty.
        joint: the wrapping key is one that several tokens hold (joint.py).
    """

    purpose: Purpose
    spec: KeySpec
    wrapping: CkaId
    blob: bytes
    probe: bytes
    context: bytes
    public: bytes
    joint: bool = False

    def __hash__(self) -> int:
        # On the way of each request; the blob alone tells keys apart, equality compares the rest.
        return hash(self.blob)


KeyRef = Resident | Wrapped
