"""CRLs for an issuer from what a caller brings: lists of other clusters put together, or entries by hand.

What this mount has revoked is always listed as well, so that no list under the issuer's name takes a revocation
back. The list is in the answer and is published nowhere.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from kms.errors import ErrorKind, KmsError, invalid
from kms.operation import Call, External, Result
from kms.tables import Store
from pki.authority import Authorities, Authority, pem
from pki.crl import sign_list
from pki.hsmkey import CaToken
from pki.lint import Linter
from pki.model import CRL_EXPIRY_MAX, PublicCrl, parse_serial
from pki.profiles.draft import utc
from pki.profiles.usages import parse_oid
from pki.store import REVOCATIONS
from pki.validity import parse_go_duration, parse_time

MAX_ENTRIES = 100_000
_RESERVED = {
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    ExtensionOID.CRL_NUMBER,
    ExtensionOID.DELTA_CRL_INDICATOR,
    ExtensionOID.ISSUING_DISTRIBUTION_POINT,
}
Entries = dict[int, x509.RevokedCertificate]  # by serial number


@dataclass(frozen=True)
class Resigning:
    """One per process."""

    store: Store
    token: CaToken
    authorities: Authorities
    linter: Linter

    def resign(self, call: Call) -> External[bytes]:
        """One list of all entries of `crls`, each of which the issuer's key has signed."""
        authority = self._authority(call)
        entries: Entries = {}
        for number, text in enumerate(call.args.get("crls") or ()):
            crl = _parse_crl(str(text), number)
            if not crl.is_signature_valid(authority.public_key):
                raise invalid(
                    f"failed signature verification of crl {number}: it is not signed by this issuer"
                )
            for entry in crl:
                known = entries.get(entry.serial_number)
                if known is None or entry.revocation_date_utc < known.revocation_date_utc:
                    entries[entry.serial_number] = entry
        return self._external(call, authority, entries, [])

    def sign(self, call: Call) -> External[bytes]:
        """A list of the entries of `revoked_certs`."""
        authority = self._authority(call)
        entries: Entries = {}
        for number, item in enumerate(call.args.get("revoked_certs") or ()):
            entry = _entry(number, item)
            if entry.serial_number in entries:
                raise invalid(f"duplicate serial number: {item['serial_number']}, entry {number}")
            entries[entry.serial_number] = entry
        return self._external(call, authority, entries, _extensions(call.args.get("extensions") or ()))

    def _authority(self, call: Call) -> Authority:
        try:
            return self.authorities.get(call.mount.id, str(call.args["issuer_ref"]), "crl-signing")
        except KmsError as error:
            if error.kind is not ErrorKind.INVALID:
                raise
            raise invalid(f"failed to resolve issuer issuer_ref: {error.detail}") from None

    def _external(
        self, call: Call, authority: Authority, entries: Entries, more: list[x509.Extension[Any]]
    ) -> External[bytes]:
        form = str(call.args.get("format") or "pem").lower()
        if form not in {"pem", "der"}:
            raise invalid(f"unknown format value of {form}")
        number, base = int(call.args.get("crl_number") or 0), int(call.args.get("delta_crl_base_number", -1))
        if base < -1:
            raise invalid("delta_crl_base_number parameter must be -1 or greater")
        if number < 1:
            raise invalid(
                "crl_number parameter must be 1 or greater: no list of this issuer has the number 0"
            )
        if base >= number:
            raise invalid("delta_crl_base_number must be below crl_number")
        now, life = int(call.now), _life(str(call.args.get("next_update") or "72h"))
        if base < 0:
            entries = {**self._own(call.mount.id, authority.issuer.id), **entries}
        if len(entries) > MAX_ENTRIES:
            raise invalid(f"a list has at most {MAX_ENTRIES} entries")
        builder = x509.CertificateRevocationListBuilder(
            issuer_name=authority.certificate.subject,
            last_update=utc(now).replace(tzinfo=None),
            next_update=utc(now + life).replace(tzinfo=None),
            extensions=[
                x509.Extension(value.oid, isinstance(value, x509.DeltaCRLIndicator), value)
                for value in (
                    authority.common[0][0],
                    x509.CRLNumber(number),
                    *([x509.DeltaCRLIndicator(base)] if base >= 0 else []),
                )
            ]
            + more,
            revoked_certificates=[entries[serial] for serial in sorted(entries)],
        )
        wanted = PublicCrl(
            number=number, this_update=now, next_update=now + life, entries=len(entries), der=b""
        )
        facts: dict[str, str | int] = {
            "mount": call.mount.id,
            "issuer": authority.issuer.id,
            "crl_number": number,
            "entries": len(entries),
        }

        def answer(der: bytes) -> Result:
            text = base64.b64encode(der).decode("ascii") if form == "der" else pem(der, "X509 CRL") + "\n"
            return Result(data={"crl": text}, subject=facts)

        return External(
            facts,
            None,
            lambda: sign_list(self.token, self.linter, authority, builder, wanted),
            lambda _tx, der: answer(der),
            lambda _tx, _error: None,
            answer=answer,
        )

    def _own(self, mount_id: str, issuer_id: str) -> Entries:
        rows = self.store.reader().scan(REVOCATIONS, f"{mount_id}/{issuer_id}/")
        return {
            int(row.value.serial, 16): _built(int(row.value.serial, 16), row.value.revoked_at) for row in rows
        }


def _built(
    serial: int, revoked_at: int, extensions: Iterable[x509.Extension[Any]] = ()
) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder(serial, utc(revoked_at).replace(tzinfo=None), list(extensions))
    return builder.build()


def _life(text: str) -> int:
    try:
        seconds = parse_go_duration(text)
    except ValueError as error:
        raise invalid(f"invalid value for next_update: {error}") from None
    if seconds <= 0:
        raise invalid("next_update parameter must be greater than 0")
    if seconds > CRL_EXPIRY_MAX:
        raise invalid("next_update must be at most 240h (CA/B BR 7.2)")
    return seconds


def _parse_crl(text: str, number: int) -> x509.CertificateRevocationList:
    if text.count("-----BEGIN") != 1:
        raise invalid(f"failed decoding crl {number}: invalid crl; should be one PEM block only")
    try:
        return x509.load_pem_x509_crl(text.encode())
    except ValueError:
        raise invalid(f"failed decoding crl {number}: it could not be parsed") from None


def _entry(number: int, item: Any) -> x509.RevokedCertificate:
    if not isinstance(item, Mapping):
        raise invalid(f"entry {number} of revoked_certs is not an object")
    if "serial_number" not in item:
        raise invalid(f"failed parsing serial_number from entry {number}: missing 'serial_number' field")
    serial = parse_serial(str(item["serial_number"]))
    if serial is None or int(serial, 16) == 0:
        raise invalid(f"failed parsing serial_number from entry {number}: no serial number")
    if "revocation_time" not in item:
        raise invalid(f"failed parsing revocation_time from entry {number}: missing 'revocation_time' field")
    moment = item["revocation_time"]
    seconds = moment if isinstance(moment, int) else parse_time(str(moment))
    if not 0 < seconds < datetime(9999, 1, 1, tzinfo=UTC).timestamp():
        raise invalid(f"failed parsing revocation_time from entry {number}: out of range")
    return _built(int(serial, 16), seconds, _extensions(item.get("extensions") or ()))


def _extensions(items: Any) -> list[x509.Extension[Any]]:
    found: dict[x509.ObjectIdentifier, x509.Extension[Any]] = {}
    for number, item in enumerate(items):
        if not isinstance(item, Mapping):
            raise invalid(f"extension entry {number} not a map")
        oid = parse_oid(str(item.get("id") or ""))
        if oid is None:
            raise invalid(f"failed parsing extension entry {number}: id is not an object identifier")
        if oid in _RESERVED:
            raise invalid(f"failed parsing extension entry {number}: {oid.dotted_string} is reserved")
        if oid in found:
            raise invalid(f"duplicate extension id: {oid.dotted_string}")
        try:
            value = base64.b64decode(str(item.get("value") or ""), validate=True)
        except binascii.Error:
            raise invalid(f"failed parsing extension entry {number}: value is not base64") from None
        critical = item.get("critical") in {True, "true", "1"}
        found[oid] = x509.Extension(oid, critical, x509.UnrecognizedExtension(oid, value))
    return list(found.values())
