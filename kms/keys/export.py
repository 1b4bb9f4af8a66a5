"""Handing out key material: only of keys whose owner made them exportable, and never of `hsm` keys.

Public keys and certificate chains are always handed out. Formats are those of the Vault API:

    type                 ""                             raw             der                pem
    symmetric, hmac      base64 of the bytes            the same        -                  -
    ecdsa, rsa           PEM, SEC 1 or PKCS#1           -               base64 of PKCS#8   PEM of PKCS#8
    ed25519              base64 of seed || public key   the same        base64 of PKCS#8   PEM of PKCS#8
    mldsa, mlkem         base64 of the seed             the same        base64 of PKCS#8   PEM of PKCS#8
    public               PEM; raw where there is raw    not EC, RSA     base64 of SPKI     PEM of SPKI
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
)

from kms.errors import invalid, not_found
from kms.keys.birth import facts
from kms.keys.catalogue import Kind, Use
from kms.keys.core import Core
from kms.keys.lifecycle import check_use, check_version_use, refuse_soft_deleted
from kms.keys.model import KeyVersion, Material, NamedKey, SoftwareMaterial, VersionState
from kms.keys.software import PrivateKey, load_private, seed_and_public
from kms.keys.states import Act
from kms.keys.store import KEY_VERSIONS
from kms.keys.view import public_text
from kms.operation import Result

FORMATS: Final = ("", "raw", "der", "pem")
NOT_EXPORTABLE: Final = "private key material is not exportable"
_NONE: Final = NoEncryption()


class Exports:
    """The verb. One per process."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def export(self, mount_id: str, name: str, kind: str, which: str, encoding: str) -> Result:
        """Versions of a key by number.

        Args:
            mount_id: of the mount that the name is in.
            name: of the key.
            kind: one of the export types.
            which: "" for all versions, "latest", or a number.
            encoding: one of FORMATS.
        """
        exporter = _EXPORTERS.get(kind)
        if exporter is None:
            raise invalid(f"invalid export type: {kind}")
        if encoding not in FORMATS:
            raise invalid(f"invalid format: {encoding}")
        row = self._core.row(mount_id, name)
        if row is None:
            raise not_found()
        key = row.value
        refuse_soft_deleted(key)
        exporter.check(key)
        if exporter.secret:
            if not key.exportable:
                raise invalid(NOT_EXPORTABLE)
            check_use(key, Act.EXPORT, self._core.clock.now())
        versions = self.versions(key, which)
        if exporter.secret:
            for each in versions:
                check_version_use(key, each, Act.EXPORT, self._core.clock.now())
        keys = {str(each.version): exporter.render(key, each, encoding) for each in versions}
        return Result(
            data={"name": key.name, "type": key.type, "keys": keys},
            items=len(keys),
            subject=facts(key, versions[-1].version) | {"exported": kind},
        )

    def versions(self, key: NamedKey, which: str) -> list[KeyVersion]:
        """The versions that an export path names, all that may decrypt if it names none.

        Raises:
            KmsError(INVALID): there is none such.
        """
        rows = self._core.store.reader().scan(KEY_VERSIONS, f"{key.id}/")
        usable = [
            row.value
            for row in rows
            if row.value.state is VersionState.ACTIVE and row.value.version >= key.min_decryption_version
        ]
        if not which:
            return usable
        number = key.latest_version if which == "latest" else _number(which)
        if number < key.min_decryption_version:
            raise invalid("version for export is below minimum decryption version")
        found = [version for version in usable if version.version == number]
        if not found:
            raise invalid("version does not exist or cannot be found")
        return found


def _number(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 10):
        raise invalid("invalid key version")
    return int(text)


@dataclass(frozen=True, slots=True)
class Exporter:
    """One export type. `secret` ones need an exportable key."""

    secret: bool
    check: Callable[[NamedKey], None]
    render: Callable[[NamedKey, KeyVersion, str], str]


def bytes_of(material: Material | None) -> bytes:
    """The stored bytes of a software key.

    Raises:
        KmsError(INVALID): there are none that may be handed out.
    """
    if not isinstance(material, SoftwareMaterial):
        raise invalid(NOT_EXPORTABLE)
    return material.secret


def _check_use(use: Use, text: str) -> Callable[[NamedKey], None]:
    def check(key: NamedKey) -> None:
        if not key.algorithm.allows(use, key.protection):
            raise invalid(text)

    return check


def _check_public(key: NamedKey) -> None:
    if not key.algorithm.title:
        raise invalid(f"unknown key type {key.type} for export type public-key")


def _anything(_key: NamedKey) -> None:
    """Every key has an HMAC key."""


def _main(key: NamedKey, version: KeyVersion, encoding: str) -> str:
    secret = bytes_of(version.material)
    if not key.algorithm.title:
        return _symmetric(secret, encoding)
    return _private(load_private(secret), encoding)


def _hmac(key: NamedKey, version: KeyVersion, encoding: str) -> str:
    material = version.material if key.algorithm.kind is Kind.MAC else version.mac
    return _symmetric(bytes_of(material), encoding)


def _symmetric(secret: bytes, encoding: str) -> str:
    if encoding not in ("", "raw"):
        raise invalid("unknown format for HMAC key; supported values are `` or `raw`")
    return b64encode(secret).decode()


def _no_raw(kind: str) -> str:
    return f"unknown key format for {kind} key; supported values are ``, `der`, or `pem`"


def _private(private: PrivateKey, encoding: str) -> str:
    if encoding == "der":
        return b64encode(private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, _NONE)).decode()
    if encoding == "pem":
        return _pem(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, _NONE), private)
    if isinstance(private, Ed25519PrivateKey):
        return b64encode(seed_and_public(private)).decode()
    if not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        return b64encode(private.private_bytes_raw()).decode()
    if encoding == "raw":
        raise invalid(_no_raw("rsa" if isinstance(private, rsa.RSAPrivateKey) else "ec"))
    return _pem(private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, _NONE), private)


def _pem(text: bytes, key: object) -> str:
    # The Vault API ends the PEM of RSA keys, and of no others, with a line break.
    rsa_key = isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey)
    return text.decode() if rsa_key else text.decode().strip()


def _public(_key: NamedKey, version: KeyVersion, encoding: str) -> str:
    public = load_der_public_key(version.public)
    if encoding == "der":
        return b64encode(version.public).decode()
    if not isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey) and encoding in ("", "raw"):
        return public_text(version)
    if encoding == "raw":
        raise invalid(_no_raw("rsa" if isinstance(public, rsa.RSAPublicKey) else "ec"))
    return _pem(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), public)


def _chain(_key: NamedKey, version: KeyVersion, _encoding: str) -> str:
    if not version.certificate_chain:
        raise invalid("selected key version does not have a certificate chain imported")
    return version.certificate_chain


_EXPORTERS: Final = {
    "encryption-key": Exporter(
        secret=True, check=_check_use(Use.DECRYPT, "encryption not supported for the key"), render=_main
    ),
    "signing-key": Exporter(
        secret=True, check=_check_use(Use.SIGN, "signing not supported for the key"), render=_main
    ),
    "hmac-key": Exporter(secret=True, check=_anything, render=_hmac),
    "cmac-key": Exporter(
        secret=True, check=_check_use(Use.CMAC, "cmac not supported for the key"), render=_main
    ),
    "wrapping-key": Exporter(
        secret=True, check=_check_use(Use.WRAP, "wrapping not supported for the key"), render=_main
    ),
    "decapsulation-key": Exporter(
        secret=True,
        check=_check_use(Use.ENCAPSULATE, "decapsulation not supported for the key"),
        render=_main,
    ),
    "public-key": Exporter(secret=False, check=_check_public, render=_public),
    "certificate-chain": Exporter(
        secret=False,
        check=_check_use(Use.SIGN, "certificate chain not supported for keys that do not support signing"),
        render=_chain,
    ),
}
