"""T-50: random roles and random requests; every certificate that comes of them is linted and shown to relying parties.

Roles are drawn from all profiles, key types, usages, subjects, lifetimes and limits; requests from names of every kind, of
which some are wrong. What is refused is counted. What is issued must have no finding of pkilint (its RFC 5280 rules), verify
under `openssl verify -x509_strict`, say what was asked for, live as long as it says to the second (T-55: the last second
counts), end with its issuer, and have a serial that no other has. The CRL at the end, with one in ten revoked, is linted too. At the end all of it goes to
OpenSSL, GnuTLS, NSS, Java and Go, which must accept what is good and refuse what was revoked (tests/harness/verdict.py).
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kms.errors import ErrorKind, KmsError
from pki.profiles.named import PROFILES
from tests.harness.gathered import GATHERED
from tests.harness.verdict import show
from tests.hsm.parts import opened, private_token
from tests.pki.bench import START, YEAR, Bench, load, make_bench
from tests.pki.outside import lint, lint_crl, openssl_verify
from tests.support import make_store

OPENSSL_EACH, REVOKED_EACH, PER_ROLE = 50, 10, 20
KEYS = [("ec", 256), ("ec", 384), ("ec", 521), ("ed25519", 0), ("rsa", 2048)]
KEY_WEIGHTS = [10, 4, 2, 4, 1]  # an RSA key takes as long as fifty others
LEAVES = sorted({"", *PROFILES} - {"ca"})
LABELS = [
    "a",
    "web-1",
    "x" * 63,
    "xn--mnchen-3ya",
    "Mixed",
    "0",
    "a--b",
    "-bad",
    "under_score",
    "xn--99999999",
    "",
]
LABEL_WEIGHTS = [30, 30, 1, 12, 8, 8, 1, 1, 1, 1, 1]
URLS = {
    "issuing_certificates": ["http://pki.example.com/ca"],
    "crl_distribution_points": ["http://pki.example.com/crl"],
    "ocsp_servers": ["http://pki.example.com/ocsp"],
}


@dataclass
class Figures:
    """What came of it; `wrong` must stay empty."""

    issued: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    profiles: Counter[str] = field(default_factory=Counter)
    strict: int = 0
    wrong: list[str] = field(default_factory=list)

    def lines(self) -> str:
        """For people."""
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(self.profiles.items()))
        why = "\n".join(f"  {count:5} {text}" for text, count in self.refused.most_common(12))
        return (
            f"{self.issued} issued and linted ({kinds}), {self.strict} of them verified by openssl -x509_strict,"
            f" {self.refused.total()} refused:\n{why}\n{len(self.wrong)} findings"
        )


class Drill:
    """One CA and its random customers."""

    def __init__(self, bench: Bench, folder: Path, seed: int) -> None:
        self.bench = bench
        self.folder = folder
        self.random = random.Random(seed)
        self.figures = Figures()
        self.serials: set[int] = set()
        self.role: dict[str, Any] = {}
        bench.do("config-urls-write", **URLS)
        self.root = bench.root(ttl=YEAR)["certificate"]

    def run(self, count: int) -> Figures:
        """`count` requests, a new role for each twenty."""
        for number in range(count):
            if number % PER_ROLE == 0:
                self._new_role()
            self._one(number)
        crl = self.bench.raw("crl")
        self.figures.wrong += [f"CRL: {finding}" for finding in lint_crl(crl)]
        return self.figures

    def _new_role(self) -> None:
        draw = self.random
        profile = draw.choice(LEAVES)
        key_type, bits = draw.choices(KEYS, KEY_WEIGHTS)[0]
        self.role = {
            "profile": profile,
            "key_type": key_type,
            "key_bits": bits,
            "require_cn": profile != "spiffe" and draw.random() < 0.7,
            "allow_any_name": draw.random() < 0.3,
            "allow_bare_domains": draw.random() < 0.5,
            "allowed_uri_sans": ["spiffe://td.example/*", "https://*"],
            "allowed_other_sans": draw.choice([[], ["*"]]),
            "allowed_user_ids": ["*"],
            "allowed_serial_numbers": ["*"],
            "organization": draw.choice([[], ["Example, Inc."], ["Ünïcode GmbH"]]),
            "ou": draw.choice([[], ["A", "B"]]),
            "country": draw.choice([[], ["DE"]]),
            "policy_identifiers": draw.choice([[], ["1.3.6.1.4.1.99999.1", "2.23.140.1.2.1"]]),
            "max_ttl": draw.choice([0, 3600, 40 * 86_400]),
            "not_before_duration": draw.choice([0, 30, 300]),
            "no_rev_avail": False,
        }
        if profile != "ocsp" and draw.random() < 0.3:
            self.role |= {"no_rev_avail": True, "max_ttl": 3600}
        if not profile:
            self.role |= {
                "server_flag": draw.random() < 0.5,
                "client_flag": draw.random() < 0.5,
                "key_usage": draw.choice([["DigitalSignature"], ["KeyAgreement"], ["ContentCommitment"], []]),
                "ext_key_usage": draw.choice([[], ["EmailProtection"], ["IpsecUser", "CodeSigning"]]),
            }
        self.bench.role(**self.role)

    def _host(self) -> str:
        draw = self.random
        labels = draw.choices(LABELS, LABEL_WEIGHTS, k=draw.choice([1, 1, 2, 3]))
        wild = "*." if draw.random() < 0.1 else ""
        return f"{wild}{'.'.join(labels)}.{draw.choice(['example.com'] * 12 + ['example.org'])}"

    def _wish(self) -> dict[str, Any]:
        draw = self.random
        wish: dict[str, Any] = {"common_name": self._host() if draw.random() < 0.85 else ""}
        if self.role["profile"] == "spiffe" or draw.random() < 0.15:
            wish |= {"uri_sans": [f"spiffe://td.example/{draw.choice(['a', 'ns/b'] * 4 + ['', '..'])}"]}
        if self.role["profile"] == "spiffe" and draw.random() < 0.9:
            wish["common_name"] = ""
        if draw.random() < 0.4:
            wish["alt_names"] = [self._host() for _ in range(draw.randint(1, 5))]
        if draw.random() < 0.1:
            wish.setdefault("alt_names", []).append(f"me@{self._host()}")
        if draw.random() < 0.2:
            wish["ip_sans"] = draw.sample(["10.0.0.1", "fd00::1", "::ffff:10.0.0.2"], 2)
            if draw.random() < 0.05:
                wish["ip_sans"].append("10.0.0.256")
        if draw.random() < 0.1:
            wish["other_sans"] = ["1.3.6.1.4.1.311.20.2.3;utf8:me@example.com"]
        if draw.random() < 0.1:
            wish |= {"user_ids": ["u1"], "serial_number": draw.choice(["7", "7", "7", "a_b"])}
        if draw.random() < 0.5:
            wish["ttl"] = draw.choice([1, 60, 3600, 30 * 86_400, 2 * YEAR])
        return wish

    def _one(self, number: int) -> None:
        wish = self._wish()
        try:
            data = self.bench.issue(**wish)
        except KmsError as error:
            if error.kind is not ErrorKind.INVALID:
                self.figures.wrong.append(f"{self.role} {wish}: {error.kind}: {error.detail}")
            self.figures.refused[error.detail[:40].split('"')[0]] += 1
            return
        self.figures.issued += 1
        certificate = load(data["certificate"])
        found = [*lint(certificate.public_bytes(Encoding.DER)), *self._said(certificate, wish)]
        self.figures.wrong += [f"{self.role} {wish}: {finding}" for finding in found]
        # At its first second; for OpenSSL the last one, which RFC 5280 counts, is over.
        if number % OPENSSL_EACH == 0 and data["not_before"] < data["expiration"]:
            openssl_verify(self.folder, data["certificate"], self.root, at=data["not_before"])
            self.figures.strict += 1
        if number % REVOKED_EACH == 0:
            self.bench.do("revoke", serial_number=data["serial_number"])

    def _said(self, certificate: x509.Certificate, wish: dict[str, Any]) -> list[str]:
        """What it says that it should not, by another reading than the CA's own."""
        begin, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
        maximum = self.role["max_ttl"] or 10 * YEAR
        serial = certificate.serial_number
        repeated = serial in self.serials
        self.serials.add(serial)
        checks = {
            "a second too many": end - START + 1 <= min(wish.get("ttl", 86_400), maximum),
            "it outlives its issuer": end <= load(self.root).not_valid_after_utc.timestamp(),
            "it begins before the role lets it": begin >= START - self.role["not_before_duration"],
            "its serial is not 20 octets": serial.bit_length() == 159,
            "its serial was used": not repeated,
        }
        self.figures.profiles[self.role["profile"] or "flags"] += 1
        return [text for text, holds in checks.items() if not holds]


def drill(folder: Path, count: int, seed: int) -> Figures:
    """The whole, on a token and a database of its own."""
    (folder / "token").mkdir(parents=True)
    with opened(private_token(folder / "token")) as hsm:
        store = make_store(folder / "storage")
        try:
            bench = make_bench(store, hsm, lint_sample=1000)
            return Drill(bench, folder, seed).run(count)
        finally:
            store.close()


def main(arguments: list[str]) -> int:
    """Entry point; 1 if something is wrong."""
    parser = argparse.ArgumentParser(prog="scripts/issue-drill", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="how many requests (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=50, help="of the random requests (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="keystead-issue-") as folder:
        figures = drill(Path(folder), chosen.count, chosen.seed)
        verdict = show(GATHERED, Path(folder))
    figures.wrong += verdict.problems
    print("\n".join([*figures.wrong[:50], figures.lines(), f"relying parties: {verdict}"]))
    return 1 if figures.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
