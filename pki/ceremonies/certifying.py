"""Steps that sign with a root: certificates of other CAs, revocations and CRLs."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from kms.errors import integrity, invalid
from pki import cafields, schemes
from pki.authority import Authority
from pki.bundle import parse_certificate
from pki.ceremonies.desk import Desk, crl_file, described, duration, rfc4514, same, tbs_sha256
from pki.ceremonies.holdings import HeldRoot, Issued, Revoked
from pki.ceremonies.script import CrossSign, Revoke, SignCrl, SignIntermediate
from pki.crl import revoked_entry, sign_list
from pki.goodkey import Blocklist, check, spki_der, spki_hash
from pki.hsmkey import CaPublicKey, DrySigner, private_key
from pki.judging import judged_subject
from pki.model import CA_CRL_EXPIRY_MAX, PublicCrl, Urls, parse_serial, serial_hex
from pki.profiles import ca_draft, new_serial
from pki.profiles.draft import utc
from pki.requests import parse_csr
from pki.signing import Prepared, prepare, sign
from pki.subordinate import path_length_below
from pki.urls import checked_urls
from pki.validity import Limits, window

Facts = dict[str, Any]


@dataclass
class Certifying:
    """Certify the key of a request, or of a self-signed root, under a root of the token."""

    step: SignIntermediate | CrossSign
    desk: Desk

    def plan(self) -> Facts:
        self.desk.demand_free(self.step.name)
        authority = self._authority()
        ttl = duration(self.step.ttl)
        limits = Limits(
            self.desk.now, ttl, ttl, issuer_from=authority.not_before, issuer_until=authority.issuer.not_after
        )
        valid, _ = window({"ttl": ttl}, cafields.CA_ROLE, limits)
        facts: Facts = {
            "serial": serial_hex(new_serial()),
            "not_before": valid[0],
            "not_after": valid[1],
        }
        subject, public = self._wanted(authority)
        prepared = self._prepared(authority, facts)
        return {
            "issuer": self.step.issuer,
            "issuer_subject": rfc4514(authority.certificate.subject),
            "subject": rfc4514(subject),
            "subject_key": described(public),
            **facts,
            "tbs_sha256": tbs_sha256(prepared.tbs),
        }

    def perform(self, facts: Facts) -> Facts:
        authority = self._authority()
        prepared = self._prepared(authority, facts)
        same(facts["tbs_sha256"], prepared.tbs)
        der = sign(prepared, authority.public_key, self.desk.token, authority.ref)
        made = Issued(
            name=self.step.name,
            serial=str(facts["serial"]),
            not_after=int(facts["not_after"]),
            sha256=self.desk.write(f"{self.step.name}.crt", der),
        )
        return {"issuer": self.step.issuer, "certificate": msgspec.to_builtins(made)}

    def _authority(self) -> Authority:
        step = self.step
        urls = Urls(
            issuing_certificates=checked_urls("issuing_certificates", step.issuing_certificates),
            crl_distribution_points=checked_urls("crl_distribution_points", step.crl_distribution_points),
            ocsp_servers=checked_urls("ocsp_servers", step.ocsp_servers),
        )
        return self.desk.authority(step.issuer, urls)

    def _prepared(self, authority: Authority, facts: Facts) -> Prepared:
        subject, public = self._wanted(authority)
        request = cafields.ca_request(
            {
                "max_path_length": self.step.max_path_length,
                "permitted_dns_domains": self.step.permitted_dns_domains,
            },
            subject,
        )
        length = path_length_below(request.path_length, authority.path_length)
        request = dataclasses.replace(request, path_length=length)
        issuer = (authority.certificate.subject, authority.common, authority.hash_name())
        valid = int(facts["not_before"]), int(facts["not_after"])
        serial = int(str(facts["serial"]), 16)
        draft = ca_draft(request, (public, spki_der(public)), valid, issuer, root=False, serial=serial)
        return prepare(draft, authority.public_key, self.desk.linter)

    def _wanted(self, authority: Authority) -> tuple[x509.Name, CaPublicKey]:
        """Subject and key, after their holder proved that he has it."""
        if isinstance(self.step, CrossSign):
            found = self._other_root(self.step.root)
            subject, key = found.subject, found.public_key()
        else:
            data = self.desk.input(self.step.csr)
            if self.step.csr_sha256 and self.step.csr_sha256 != hashlib.sha256(data).hexdigest():
                raise invalid(f"{self.step.csr} is not the request that the script pins by csr_sha256")
            csr = parse_csr(data.decode("ascii", "replace"))
            subject, key = csr.subject, csr.public_key()
        own = spki_hash(spki_der(authority.public_key))
        public = check(key, Blocklist(), lambda found: hmac.compare_digest(found, own))
        if not isinstance(public, CaPublicKey):
            raise invalid("a key of this type cannot be a CA's")
        return judged_subject(subject), public

    def _other_root(self, given: str) -> x509.Certificate:
        if given in self.desk.held.roots:
            root = self.desk.held.root(given)
            return x509.load_der_x509_certificate(self.desk.certificate(given, root.sha256))
        found = parse_certificate(self.desk.input(given).decode("ascii", "replace"))
        try:
            found.verify_directly_issued_by(found)
        except (ValueError, TypeError, InvalidSignature):
            raise invalid(f"{given} is not a root: it did not sign itself") from None
        return found


@dataclass
class Revoking:
    """Note a certificate as revoked; the next CRL says so to others."""

    step: Revoke
    desk: Desk

    def plan(self) -> Facts:
        root = self.desk.held.root(self.step.issuer)
        found = _find(root, self.step.certificate)
        if any(one.serial == found.serial for one in root.revoked):
            raise invalid(f"{self.step.certificate} is revoked already")
        return {
            "issuer": root.name,
            "certificate": found.name,
            "serial": found.serial,
            "not_after": found.not_after,
            "reason": self.step.reason,
            "revoked_at": self.desk.now,
        }

    def perform(self, facts: Facts) -> Facts:
        gone = Revoked(
            serial=str(facts["serial"]),
            revoked_at=int(facts["revoked_at"]),
            not_after=int(facts["not_after"]),
            reason=str(facts["reason"]),
        )
        return {"issuer": facts["issuer"], "revoked": msgspec.to_builtins(gone)}


def _find(root: HeldRoot, given: str) -> Issued:
    serial = parse_serial(given)
    for one in root.issued:
        if given == one.name or serial == one.serial:
            return one
    known = ", ".join(f"{one.name} ({one.serial})" for one in root.issued) or "none"
    raise invalid(f"{root.name} has signed no certificate {given}; it has signed {known}")


@dataclass
class Listing:
    """Sign the next CRL of a root."""

    step: SignCrl
    desk: Desk

    def plan(self) -> Facts:
        root = self.desk.held.root(self.step.issuer)
        at = max(self.desk.now, root.crl_at)  # a clock that went back must not make an older CRL look newer
        good_for = duration(self.step.next_update)
        if good_for > CA_CRL_EXPIRY_MAX:
            raise invalid("a CRL is good for twelve months at most: give a shorter next_update")
        facts: Facts = {
            "issuer": root.name,
            "number": root.crl_number + 1,
            "this_update": at,
            "next_update": at + good_for,
            "serials": [one.serial for one in _listed(root)],
        }
        return {**facts, "tbs_sha256": tbs_sha256(self._tbs(self.desk.authority(root.name, Urls()), facts))}

    def perform(self, facts: Facts) -> Facts:
        authority = self.desk.authority(self.step.issuer, Urls())
        wanted = PublicCrl(
            number=int(facts["number"]),
            this_update=int(facts["this_update"]),
            next_update=int(facts["next_update"]),
            entries=len(facts["serials"]),
            der=b"",
        )
        same(facts["tbs_sha256"], self._tbs(authority, facts))
        builder = self._builder(authority, facts)
        der = sign_list(
            self.desk.token, self.desk.linter, authority, builder, wanted, longest=CA_CRL_EXPIRY_MAX
        )
        sha256 = self.desk.write(crl_file(self.step.issuer, wanted.number), der, "X509 CRL")
        crl = {"number": wanted.number, "this_update": wanted.this_update, "sha256": sha256}
        return {"issuer": self.step.issuer, "crl": crl}

    def _tbs(self, authority: Authority, facts: Facts) -> bytes:
        dry = private_key(authority.public_key, DrySigner(authority.public_key))
        crl: x509.CertificateRevocationList = schemes.build(
            self._builder(authority, facts), dry, authority.crl_scheme
        )
        return crl.tbs_certlist_bytes

    def _builder(self, authority: Authority, facts: Facts) -> x509.CertificateRevocationListBuilder:
        entries = {one.serial: one for one in self.desk.held.root(self.step.issuer).revoked}
        if not set(facts["serials"]) <= set(entries):
            raise integrity("the planned CRL names a serial that no step revoked")
        listed = [entries[serial] for serial in facts["serials"]]
        aki, number = authority.common[0][0], x509.CRLNumber(int(facts["number"]))
        return x509.CertificateRevocationListBuilder(
            issuer_name=authority.certificate.subject,
            last_update=utc(int(facts["this_update"])).replace(tzinfo=None),
            next_update=utc(int(facts["next_update"])).replace(tzinfo=None),
            extensions=[x509.Extension(value.oid, False, value) for value in (aki, number)],
            revoked_certificates=[revoked_entry(one.serial, one.revoked_at, one.reason) for one in listed],
        )


def _listed(root: HeldRoot) -> list[Revoked]:
    """What the next CRL names: each until one CRL came after the certificate's end (RFC 5280 3.3)."""
    return [one for one in root.revoked if max(one.not_after, one.revoked_at) >= root.crl_at]
