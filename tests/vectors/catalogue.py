"""Every file that is asked, who reads it, and how much of it the test run takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.vectors import signatures, symmetric, wycheproof
from tests.vectors.cases import Read

GCM = "ciphers/AES/GCM"
KW = "keywrap/kwtestvectors"
ECDSA = "asymmetric/ECDSA"
RSA = "asymmetric/RSA"


@dataclass(frozen=True)
class File:
    """One file; the test run asks every `stride`-th of its vectors."""

    path: str
    reader: Callable[[str], Read]
    stride: int = 1


FILES: tuple[File, ...] = (
    *(
        File(f"{GCM}/gcm{way}{bits}.rsp", symmetric.gcm, 5)
        for way in ("Decrypt", "EncryptExtIV")
        for bits in (128, 192, 256)
    ),
    File("ciphers/ChaCha20Poly1305/boringssl.txt", symmetric.chacha),
    *(
        File(f"{KW}/{mode}_{way}_{bits}{inverse}.txt", symmetric.key_wrap, 10)
        for mode in ("KW", "KWP")
        for way in ("AE", "AD")
        for bits in (128, 192, 256)
        for inverse in ("", "_inv")
    ),
    File(f"{KW}/TKW_AE.txt", symmetric.key_wrap),
    File(f"{KW}/TKW_AD.txt", symmetric.key_wrap),
    *(File(f"HMAC/rfc-4231-sha{bits}.txt", symmetric.hmac) for bits in (224, 256, 384, 512)),
    *(
        File(f"CMAC/nist-800-38b-{name}.txt", symmetric.cmac)
        for name in ("aes128", "aes192", "aes256", "3des")
    ),
    File(f"{ECDSA}/FIPS_186-3/SigVer.rsp", signatures.ecdsa),
    File(f"{ECDSA}/FIPS_186-3/SigGen.txt", signatures.ecdsa),
    File(f"{ECDSA}/FIPS_186-3/PKV.rsp", signatures.points),
    File(f"{ECDSA}/SECP256K1/SigGen.txt", signatures.ecdsa, 25),
    File("asymmetric/Ed25519/sign.input", signatures.ed25519, 16),
    File(f"{RSA}/FIPS_186-2/SigGen15_186-3.rsp", signatures.rsa_signatures),
    File(f"{RSA}/FIPS_186-2/SigVer15_186-3.rsp", signatures.rsa_signatures),
    File(f"{RSA}/FIPS_186-2/SigGenPSS_186-3.rsp", signatures.rsa_signatures),
    File(f"{RSA}/FIPS_186-2/SigVerPSS_186-3.rsp", signatures.rsa_signatures),
    File(f"{RSA}/FIPS_186-2/SigVerRSA.rsp", signatures.x931),
    File(f"{RSA}/oaep-custom/oaep-sha256-sha256.txt", signatures.oaep),
    File(f"{RSA}/oaep-custom/oaep-sha1-sha256.txt", signatures.oaep),
    File(f"{RSA}/oaep-custom/oaep-sha256-sha1.txt", signatures.oaep),
    File(f"{RSA}/oaep-custom/oaep-sha512-sha512.txt", signatures.oaep),
    *(
        File(f"asymmetric/MLDSA/kat_MLDSA_{level}_det_pure.rsp", signatures.ml_dsa, 5)
        for level in (44, 65, 87)
    ),
)

_CIPHER, _SIGNED, _AGREED = (f"{name}/wycheproof" for name in ("Cipher", "Signature", "Protocol"))
WYCHEPROOF: tuple[File, ...] = (
    *(
        File(f"{_CIPHER}/{name}_test.json", wycheproof.aead, 3)
        for name in ("aes_gcm", "chacha20_poly1305", "xchacha20_poly1305")
    ),
    File(f"{_CIPHER}/aes_kwp_test.json", wycheproof.key_wrap, 3),
    File(f"{_CIPHER}/aes_wrap_test.json", wycheproof.key_wrap, 3),
    *(
        File(f"{_CIPHER}/rsa_oaep_{bits}_sha256_mgf1sha256_test.json", wycheproof.oaep)
        for bits in (2048, 3072, 4096)
    ),
    File("Hash/wycheproof/aes_cmac_test.json", wycheproof.cmac, 4),
    *(
        File(f"{_SIGNED}/ecdsa_{curve}_{hash_name}{form}_test.json", wycheproof.signature, 10)
        for curve, hash_names in {
            "secp256r1": ("sha256", "sha512"),
            "secp384r1": ("sha384", "sha512"),
            "secp521r1": ("sha512",),
            "secp256k1": ("sha256", "sha512"),
        }.items()
        for hash_name in hash_names
        for form in ("", "_p1363")
    ),
    *(
        File(f"{_SIGNED}/ecdsa_{curve}_{hash_name}_test.json", wycheproof.signature, 20)
        for curve, hash_name in (
            ("secp256r1", "sha3_256"),
            ("secp256r1", "sha3_512"),
            ("secp384r1", "sha256"),
            ("secp384r1", "sha3_384"),
            ("secp521r1", "sha3_512"),
            ("secp224r1", "sha256"),
        )
    ),
    File(f"{_SIGNED}/ed25519_test.json", wycheproof.signature, 3),
    File(f"{_SIGNED}/ed448_test.json", wycheproof.signature),
    *(
        File(f"{_SIGNED}/rsa_pss_{name}_test.json", wycheproof.signature, 5)
        for name in (
            "2048_sha256_mgf1_0",
            "2048_sha256_mgf1_32",
            "2048_sha256_mgf1sha1_20",
            "2048_sha384_mgf1_48",
            "3072_sha256_mgf1_32",
            "4096_sha256_mgf1_32",
            "4096_sha512_mgf1_64",
            "misc",
        )
    ),
    *(
        File(f"{_SIGNED}/rsa_signature_{name}_test.json", wycheproof.signature, 10)
        for name in (
            "2048_sha256",
            "2048_sha384",
            "2048_sha512",
            "2048_sha3_256",
            "2048_sha512_256",
            "3072_sha256",
            "3072_sha512",
            "4096_sha256",
            "4096_sha512",
            "8192_sha256",
        )
    ),
    *(File(f"{_SIGNED}/mldsa_{level}_verify_test.json", wycheproof.ml_dsa, 4) for level in (44, 65, 87)),
    *(
        File(f"{_AGREED}/ecdh_{curve}_pem_test.json", wycheproof.agreement, 50)
        for curve in ("secp256r1", "secp384r1", "secp521r1")
    ),
)
"""Of Google's and C2SP's project of that name."""
