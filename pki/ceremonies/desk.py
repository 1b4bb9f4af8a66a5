"""What the steps of a ceremony work with: the token, the folder, and what is held so far."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from kms.audit.layout import write_whole
from kms.clock import Clock
from kms.durations import seconds
from kms.errors import integrity, invalid
from kms.hsm import KeySpec, Purpose, Resident
from kms.ids import CkaId
from pki.authority import Authority, assemble, pem
from pki.bundle import parse_certificate
from pki.ceremonies.holdings import HeldKey, Holdings
from pki.goodkey import spki_der
from pki.hsmkey import CaPublicKey, CaToken
from pki.lint import Linter
from pki.model import DAY, Issuer, Urls

INPUTS = "inputs"
_LONGEST = 50 * 366 * DAY


class OfflineToken(CaToken, Protocol):
    """What a ceremony asks of its token; `kms.hsm.Hsm` is one."""

    def adopt(self, purpose: Purpose, spec: KeySpec, cka_id: CkaId) -> bytes | None: ...

    def attributes(self, ref: Resident) -> dict[str, bool | str]: ...

    def public_key(self, cka_id: CkaId) -> bytes: ...


@dataclass
class Desk:
    """One ceremony's. `held` grows with each step."""

    folder: Path
    token: OfflineToken
    linter: Linter
    clock: Clock
    held: Holdings

    @property
    def now(self) -> int:
        """Whole seconds."""
        return int(self.clock.now())

    # -- keys ---------------------------------------------------------------------------------------

    def birth(self, ref: Resident, label: str) -> tuple[bytes, CaPublicKey]:
        """The pair with this CKA_ID: the whole one that an interrupted run left, or a new one.

        Returns:
            SubjectPublicKeyInfo in DER, and the public key.
        """
        spki = self.token.adopt(ref.purpose, ref.spec, ref.cka_id)
        if spki is None:
            spki = self.token.generate(ref.purpose, ref.spec, ref.cka_id, label)
        return spki, public_key(spki)

    def ref(self, key: HeldKey) -> Resident:
        """A key of the token, after the token has shown that it is the recorded one.

        Raises:
            KmsError(INTEGRITY): it is absent, or another.
        """
        cka_id = CkaId(bytes.fromhex(key.cka_id))
        if self.token.public_key(cka_id).hex() != key.spki:
            raise integrity(f"the token's key {key.cka_id} is not the recorded key {key.name}")
        return Resident(cka_id, Purpose(key.purpose), KeySpec(key.spec))

    def authority(self, name: str, urls: Urls) -> Authority:
        """A root of the token, ready to sign; `urls` go into what it certifies."""
        root, key = self.held.root(name), self.held.key(name)
        ref = self.ref(key)
        der = self.certificate(name, root.sha256)
        issuer = Issuer(
            id=name, name=name, key_id=name, certificate=der, serial=root.serial, not_after=root.not_after
        )
        authority = assemble("offline", issuer, ref, urls, [der])
        if spki_der(authority.public_key).hex() != key.spki:
            raise integrity(f"{name}.crt is not the certificate of the token's key {name}")
        return authority

    # -- files --------------------------------------------------------------------------------------

    def demand_free(self, name: str) -> None:
        """Raises KmsError(INVALID): a key or a certificate has this name."""
        if name in self.held.keys or (self.folder / f"{name}.crt").exists():
            raise invalid(f"the name {name} is taken: give another")

    def certificate(self, name: str, sha256: str) -> bytes:
        """A certificate that was made, in DER.

        Raises:
            KmsError(INTEGRITY): its file is not the recorded one.
        """
        path = self.folder / f"{name}.crt"
        der = parse_certificate(_text(path)).public_bytes(Encoding.DER)
        if hashlib.sha256(der).hexdigest() != sha256:
            raise integrity(f"{path} is not the certificate that the transcript names")
        return der

    def input(self, given: str) -> bytes:
        """A file that the script names, as it was copied when the ceremony began."""
        return (self.folder / INPUTS / Path(given).name).read_bytes()

    def write(self, name: str, der: bytes, label: str = "CERTIFICATE") -> str:
        """Store a PEM file, durably. Returns the SHA-256 of the DER."""
        path = self.folder / name
        write_whole(path, (pem(der, label) + "\n").encode("ascii"), path.with_name(name + ".tmp"))
        return hashlib.sha256(der).hexdigest()


def crl_file(issuer: str, number: int) -> str:
    """The name of a CRL's file."""
    return f"{issuer}-{number}.crl"


def public_key(spki: bytes) -> CaPublicKey:
    """The public key of a CA. Raises KmsError(INTEGRITY) for a type that CAs here never have."""
    public = load_der_public_key(spki)
    if not isinstance(public, CaPublicKey):
        raise integrity("a CA key of a type that CAs here never have")
    return public


def duration(text: str) -> int:
    """Seconds. Raises KmsError(INVALID): not a duration, or longer than fifty years."""
    try:
        found = seconds(text)
    except ValueError:
        raise invalid(f'"{text}" is not a duration; write hours, as "8760h"') from None
    if not 0 < found <= _LONGEST:
        raise invalid(f"{text} is not between a second and fifty years")
    return found


def tbs_sha256(tbs: bytes) -> str:
    """The hash by which a plan names what will be signed."""
    return hashlib.sha256(tbs).hexdigest()


def same(planned: object, tbs: bytes) -> None:
    """Raises KmsError(INTEGRITY): the bytes to sign are not the planned ones."""
    if planned != tbs_sha256(tbs):
        raise integrity("what would be signed now differs from what was planned and confirmed")


def described(public: CaPublicKey) -> str:
    """A public key for people: its type and the SHA-256 of its SubjectPublicKeyInfo."""
    if isinstance(public, rsa.RSAPublicKey):
        kind = f"RSA {public.key_size} bits"
    elif isinstance(public, ec.EllipticCurvePublicKey):
        kind = f"EC {public.curve.name} {public.key_size} bits"
    else:
        kind = type(public).__name__.removesuffix("PublicKey")
    return f"{kind}, SHA-256 {hashlib.sha256(spki_der(public)).hexdigest()}"


def rfc4514(name: x509.Name) -> str:
    """A distinguished name for people (RFC 4514)."""
    return name.rfc4514_string()


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise integrity(f"{path} cannot be read ({type(error).__name__})") from None
