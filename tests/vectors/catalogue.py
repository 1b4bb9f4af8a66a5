"""Every file that is asked, who reads it, and how much of it the test run takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.vectors import signatures, symmetric
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
