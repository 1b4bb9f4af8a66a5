"""Certificates of every kind that the CA makes, and near misses of them, as cases for relying parties."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.ocsp import OCSPRequestBuilder, load_der_ocsp_response
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pki.hsmkey import HsmSigner, private_key
from tests.harness.validators import Case
from tests.pki.bench import YEAR, Bench

DAY: Final = 86_400
HOST: Final = "a.example.com"
Builder = x509.CertificateBuilder

ROLES: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "server": {"client_flag": False},
    "client": {"server_flag": False},
    "no-cn": {"require_cn": False, "allowed_uri_sans": ["spiffe://example.com/*"], "server_flag": False},
    "rich": {
        "allow_ip_sans": True,
        "allow_glob_domains": True,
        "organization": ["Example"],
        "ou": ["Testing"],
        "country": ["NL"],
        "locality": ["Delft"],
        "province": ["Zuid-Holland"],
        "street_address": ["Markt 1"],
        "postal_code": ["2611 GP"],
        "policy_identifiers": ["1.3.6.1.4.1.99999.1"],
        "allowed_uri_sans": ["https://example.com/*"],
        "basic_constraints_valid_for_non_ca": True,
        "key_usage": ["DigitalSignature"],
    },
    "mail": {"email_protection_flag": True, "allow_any_name": True, "enforce_hostnames": False},
}
KEYS: Final = (("ec", 256), ("ec", 384), ("ec", 521), ("rsa", 2048), ("rsa", 3072), ("ed25519", 0))
CHAINS: Final[
    dict[str, tuple[tuple[str, int], tuple[str, int], dict[str, Any]]]
] = {  # name: (key of the root, key of the intermediate, what limits the intermediate)
    "ec-ec": (("ec", 256), ("ec", 256), {"max_path_length": 0}),
    "rsa-ec": (("rsa", 2048), ("ec", 384), {}),
    "ec-rsa": (("ec", 384), ("rsa", 2048), {"permitted_dns_domains": ["example.com"]}),
}
MORE_CAS: Final[dict[str, dict[str, Any]]] = {
    "ec-521": {"key_type": "ec", "key_bits": 521},
    "rsa-pss": {"key_type": "rsa", "key_bits": 2048, "use_pss": True},
    "ed25519": {"key_type": "ed25519"},
}
PROFILES: Final[dict[str, dict[str, Any]]] = {
    "tls-server": {},
    "tls-client": {},
    "mtls": {},
    "spiffe": {"common_name": "", "uri_sans": ["spiffe://example.com/a"]},
    "code-signing": {},
}


@dataclass
class Corpus:
    """Cases by name: all of `good` are to be accepted, all of `bad` refused."""

    bench: Bench
    good: dict[str, Case] = field(default_factory=dict)
    bad: dict[str, Case] = field(default_factory=dict)
    malformed: dict[str, Case] = field(default_factory=dict)

    @property
    def now(self) -> int:
        return int(self.bench.clock.now())

    # -- the CAs ------------------------------------------------------------------------------------

    def authorities(self) -> None:
        """Roots and intermediates, each with every role; an hour and two days old when leaves are made."""
        for name, (root, between, limits) in CHAINS.items():
            self.bench.root(
                f"{name}-root", common_name=f"Root {name}", key_type=root[0], key_bits=root[1], ttl=2 * YEAR
            )
            csr = self.bench.do(
                "intermediate-generate",
                name,
                common_name=f"Issuing {name}",
                key_type=between[0],
                key_bits=between[1],
                exported="internal",
            )
            signed = self.bench.do("sign-intermediate", f"{name}-root", csr=csr["csr"], ttl=YEAR, **limits)
            self.bench.do("intermediate-set-signed", name, certificate="\n".join(signed["ca_chain"]))
            for mount in (name, f"{name}-root"):
                for role, fields in ROLES.items():
                    self.bench.role(role, mount, **fields)
        self.bench.clock.sleep(2 * DAY)
        self.rotate()

    def rotate(self) -> None:
        for name in CHAINS:
            self.bench.do("crl-rotate", name)
            self.bench.do("crl-rotate", f"{name}-root")

    def ca(self, mount: str) -> bytes:
        return self.bench.raw("ca", mount)

    def crls(self, mount: str) -> tuple[bytes, ...]:
        return self.bench.raw("crl", f"{mount}-root"), self.bench.raw("crl", mount)

    def case(self, name: str, mount: str, leaf: bytes, **more: Any) -> Case:
        """A leaf of an intermediate as of now."""
        wanted: dict[str, Any] = {"at": self.now + 60, "purpose": "client", **more}
        return Case(name, leaf, (self.ca(mount),), (self.ca(f"{mount}-root"),), **wanted)

    def leaf(self, mount: str = "ec-ec", role: str = "plain", **args: Any) -> bytes:
        bits = args.pop("key", None)
        if bits is not None:
            self.bench.role(role, mount, **{**ROLES[role], "key_type": bits[0], "key_bits": bits[1]})
        made = self.bench.issue(mount, role=role, **{"common_name": HOST, "ttl": 5 * DAY, **args})
        return der(made["certificate"])

    # -- what is to be accepted ---------------------------------------------------------------------

    def accepted(self) -> None:
        """Every chain with every key type; every role; with CRLs; directly below a root."""
        for mount in CHAINS:
            for key in KEYS:
                name = f"{mount} {key[0]}-{key[1]}"
                self.good[name] = self.case(
                    name, mount, self.leaf(mount, key=key), host=HOST, purpose="server", crls=self.crls(mount)
                )
            self.bench.role("plain", mount)
            for purpose in ("server", "client"):
                name = f"{mount} by the root, {purpose}"
                leaf = self.leaf(f"{mount}-root")
                crls = (self.bench.raw("crl", f"{mount}-root"),)
                self.good[name] = replace(self.case(name, mount, leaf, purpose=purpose, crls=crls), chain=())
        self._add("role server", self.leaf(role="server"), host=HOST, purpose="server")
        self._add("role client", self.leaf(role="client"))
        spiffe = self.leaf(role="no-cn", common_name="", uri_sans=["spiffe://example.com/a"])
        self._add("no subject, a URI", spiffe)
        rich = self.leaf(
            role="rich",
            alt_names=["*.example.com", "b.example.com"],
            ip_sans=["192.0.2.7", "2001:db8::7"],
            uri_sans=["https://example.com/x"],
        )
        self._add("role rich", rich, host="b.example.com", purpose="server")
        self._add(
            "role mail", self.leaf(role="mail", common_name="ada@example.com", alt_names=["ada@example.com"])
        )
        self.listed()

    def listed(self) -> None:
        """A good certificate beside a CRL that names others, and one at both ends of its life."""
        for _ in range(3):
            self.bench.do("revoke", "ec-ec", serial_number=serial(self.leaf()))
        self._add("another is revoked", self.leaf(), crls=self.crls("ec-ec"))
        leaf = self.leaf()
        # OpenSSL takes the last second for expired, and vfychain knows minutes only.
        self._add("the last minutes", leaf, at=int(_parsed(leaf).not_valid_after_utc.timestamp()) - 90)
        self._add("the first second", leaf, at=int(_parsed(leaf).not_valid_before_utc.timestamp()))

    def _add(self, name: str, leaf: bytes, **more: Any) -> None:
        self.good[name] = self.case(name, "ec-ec", leaf, **more)

    def more_kinds(self) -> None:
        """CA keys of further kinds, profiles by name, shards of CRLs and a delta."""
        for name, key in MORE_CAS.items():
            self.bench.root(f"{name}-root", common_name=f"Root {name}", ttl=YEAR, **key)
            csr = self.bench.do(
                "intermediate-generate", name, common_name=f"Issuing {name}", exported="internal", **key
            )
            pss = {"use_pss": key.get("use_pss", False)}
            signed = self.bench.do("sign-intermediate", f"{name}-root", csr=csr["csr"], ttl=YEAR // 2, **pss)
            self.bench.do("intermediate-set-signed", name, certificate="\n".join(signed["ca_chain"]))
            self.bench.role("plain", name, **pss)
            leaf = self.leaf(name)
            self.good[name] = self.case(name, name, leaf, host=HOST, purpose="server", crls=self.crls(name))
        for profile, names in PROFILES.items():
            self.bench.role("named", "ec-ec", profile=profile, allowed_uri_sans=["spiffe://example.com/*"])
            made = self.bench.issue("ec-ec", role="named", **{"common_name": HOST, "ttl": DAY, **names})
            purpose = {"tls-server": "server", "code-signing": "code"}.get(profile, "client")
            self._add(f"profile {profile}", der(made["certificate"]), purpose=purpose)
        self.bench.role("named", "ec-ec", no_rev_avail=True, max_ttl=5 * DAY)
        self._add("no revocation available", self.leaf(role="named", ttl=DAY))
        self._shards()
        self._delta()
        self._ocsp()

    def _shards(self) -> None:
        url = "http://crl.example/int/crl"
        self.bench.do("config-urls-write", "rsa-ec", crl_distribution_points=[url])
        self.bench.do("config-crl-write", "rsa-ec", shards=2)
        leaf, gone = self.leaf("rsa-ec"), self.leaf("rsa-ec")
        self.bench.do("revoke", "rsa-ec", serial_number=serial(gone))
        root = self.bench.raw("crl", "rsa-ec-root")
        for name, one, where in (("a shard", leaf, self.good), ("revoked in a shard", gone, self.bad)):
            point = _parsed(one).extensions.get_extension_for_class(x509.CRLDistributionPoints).value[0]
            issuer, shard = (point.full_name or [])[0].value.split("/")[-2:]
            crl = self.bench.raw("crl-shard", "rsa-ec", shard_issuer=issuer, shard=shard)
            where[name] = self.case(name, "rsa-ec", one, purpose="server", crls=(root, crl))

    def _delta(self) -> None:
        self.bench.do("config-crl-write", "ec-rsa", enable_delta=True, auto_rebuild=True)
        self.bench.do("crl-rotate", "ec-rsa")
        self.bench.do("revoke", "ec-rsa", serial_number=serial(self.leaf("ec-rsa")))
        self.bench.do("crl-rotate-delta", "ec-rsa")
        crls = (*self.crls("ec-rsa"), self.bench.raw("crl-delta", "ec-rsa"))
        leaf = self.leaf("ec-rsa")
        self.good["a delta"] = self.case("a delta", "ec-rsa", leaf, purpose="server", crls=crls)

    def _ocsp(self) -> None:
        """Answers about good certificates, and what must not pass for one."""
        for mount in CHAINS:
            leaf = self.leaf(mount)
            name = f"{mount} by OCSP"
            self.good[name] = self.case(name, mount, leaf, purpose="server", ocsp=self.answer(mount, leaf))
        gone, other = self.leaf(), self.leaf()
        self.bench.do("revoke", "ec-ec", serial_number=serial(gone))
        good = self.answer("ec-ec", other)
        for name, leaf, ocsp in (
            ("revoked by OCSP", gone, self.answer("ec-ec", gone)),
            ("an answer about another certificate", gone, good),
            ("an answer that was changed", other, _tampered(good)),
        ):
            self.bad[name] = self.case(name, "ec-ec", leaf, purpose="server", ocsp=ocsp)

    def answer(self, mount: str, leaf: bytes) -> bytes:
        """The OCSP response about a leaf, asked with SHA-1 as most clients do."""
        asked = OCSPRequestBuilder().add_certificate(
            _parsed(leaf),
            _parsed(self.ca(mount)),
            hashes.SHA1(),  # noqa: S303  (names the issuer, protects nothing)
        )
        request = asked.build().public_bytes(Encoding.DER).decode("latin-1")
        return self.bench.raw("ocsp-post", mount, request=request)

    # -- what is to be refused ----------------------------------------------------------------------

    def refused(self) -> None:
        """Near misses: a good case with one thing wrong."""
        leaf = self.leaf()
        parsed = _parsed(leaf)
        good = self.case("", "ec-ec", leaf, host=HOST, purpose="server", crls=self.crls("ec-ec"))
        after = int(parsed.not_valid_after_utc.timestamp())
        self._miss("expired", replace(good, at=after + 120, crls=()))
        before = int(parsed.not_valid_before_utc.timestamp())
        # NSS forgives clocks that are up to a day slow.
        self._miss("not yet valid", replace(good, at=before - 3 * DAY // 2, crls=()))
        self._miss("another name", replace(good, host="b.example.com"))
        self._miss("another purpose", replace(good, leaf=self.leaf(role="server"), purpose="client"))
        self._miss("a broken signature", replace(good, leaf=leaf[:-1] + bytes((leaf[-1] ^ 1,)), crls=()))
        self._miss("another root", replace(good, roots=(self.ca("rsa-ec-root"),), crls=()))
        self._miss("another issuer", replace(good, chain=(self.namesake(),), crls=()))
        self._miss("no intermediate", replace(good, chain=(), crls=()))
        self._miss("an old CRL", replace(good, at=self.now + 4 * DAY))
        self._miss("no CRL of the issuer", replace(good, crls=good.crls[:1]))
        self._miss("a CRL with a broken signature", replace(good, crls=(good.crls[0], broken(good.crls[1]))))
        gone = self.leaf()
        self.bench.do("revoke", "ec-ec", serial_number=serial(gone))
        self._miss("revoked", replace(good, leaf=gone, crls=self.crls("ec-ec")))
        self.bench.do("revoke", "rsa-ec-root", serial_number=serial(self.ca("rsa-ec")))
        lost = self.leaf("rsa-ec")
        self._miss(
            "below a revoked intermediate",
            self.case("", "rsa-ec", lost, purpose="server", crls=self.crls("rsa-ec")),
        )
        self._forged(good)

    def _miss(self, name: str, case: Case) -> None:
        self.bad[name] = replace(case, name=name)

    def _forged(self, good: Case) -> None:
        """What this CA refuses to make, made with its key behind its back."""
        critical = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.9"), b"\x05\x00")
        plain = replace(good, crls=())
        unknown = self.forge("ec-ec", lambda b: b.add_extension(critical, critical=True))
        self._miss("an unknown critical extension", replace(plain, leaf=unknown))
        outside = x509.SubjectAlternativeName([x509.DNSName("a.example.net")])
        foreign = self.forge("ec-rsa", _with(outside), cn="a.example.net")
        self._miss(
            "outside the name constraints",
            self.case("", "ec-rsa", foreign, host="a.example.net", purpose="server"),
        )
        sub_key = ec.generate_private_key(ec.SECP256R1())
        sub = self.forge("ec-ec", _ca, cn="Sub CA", key=sub_key)
        below = _by(sub_key, sub)
        self._miss("a CA too deep", replace(plain, leaf=below, chain=(sub, *plain.chain)))
        made = self.bench.issue("ec-ec", role="plain", common_name=HOST, ttl=5 * DAY)
        own = load_pem_private_key(made["private_key"].encode(), None)
        assert isinstance(own, ec.EllipticCurvePrivateKey)
        chain = (der(made["certificate"]), *plain.chain)
        self._miss("issued by a leaf", replace(plain, leaf=_by(own, chain[0]), chain=chain))
        self._malformed(plain)

    def _malformed(self, plain: Case) -> None:
        """Certificates that break RFC 5280 in form, for linters."""
        soft = x509.BasicConstraints(ca=True, path_length=None)
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(HOST)])
        forms: dict[str, bytes] = {
            "a CA whose BasicConstraints are not critical": self.forge(
                "ec-ec", lambda b: b.add_extension(soft, critical=False), cn="Soft", key=key
            ),
            "no subject, and names that are not critical": self.forge("ec-ec", _with(names), cn=""),
            "notAfter before notBefore": _backwards(plain.leaf),
        }
        for name, leaf in forms.items():
            self.malformed[name] = replace(plain, name=name, leaf=leaf, chain=())

    def namesake(self) -> bytes:
        """An intermediate with the name of ours and another key, by the same root."""
        csr = self.bench.do(
            "intermediate-generate", "twin", common_name="Issuing ec-ec", key_type="ec", exported="internal"
        )
        signed = self.bench.do("sign-intermediate", "ec-ec-root", csr=csr["csr"], ttl=YEAR)
        return der(signed["certificate"])

    def forge(
        self,
        mount: str,
        change: Callable[[Builder], Builder],
        cn: str = HOST,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> bytes:
        """A certificate signed by the CA's own key without asking the CA."""
        authority = self.bench.service.authorities.get(self.bench.mount(mount).id, "default")
        own = key or ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)] if cn else [])
        builder = _dated(
            Builder(issuer_name=authority.certificate.subject, public_key=own.public_key()), self.now
        )
        aki, critical = authority.common[0]
        builder = builder.add_extension(aki, critical)
        builder = change(builder.subject_name(name))
        signer = HsmSigner(self.bench.token, authority.ref)
        made = builder.sign(private_key(authority.public_key, signer), hashes.SHA256())
        return made.public_bytes(Encoding.DER)


def der(pem: str) -> bytes:
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


def _parsed(leaf: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(leaf)


def serial(leaf: bytes) -> str:
    number = _parsed(leaf).serial_number
    return number.to_bytes((number.bit_length() + 7) // 8, "big").hex(":")


def _tampered(answer: bytes) -> bytes:
    """One bit of the signature is wrong."""
    signature = load_der_ocsp_response(answer).signature
    assert answer.count(signature) == 1
    return answer.replace(signature, broken(signature))


def broken(document: bytes) -> bytes:
    """One bit of the signature is wrong."""
    return document[:-1] + bytes((document[-1] ^ 1,))


def _dated(builder: Builder, now: int) -> Builder:
    start = datetime.fromtimestamp(now, UTC)
    return (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=2))
    )


def _with(names: x509.SubjectAlternativeName) -> Callable[[Builder], Builder]:
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return lambda builder: builder.add_extension(names, critical=False).add_extension(usage, critical=False)


def _ca(builder: Builder) -> Builder:
    usage = {
        name: name in {"key_cert_sign", "crl_sign"}
        for name in (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        )
    }
    assert builder._public_key is not None
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(builder._public_key), critical=False)
    )


def _by(key: ec.EllipticCurvePrivateKey, issuer: bytes) -> bytes:
    """A leaf by a key outside the HSM."""
    above = _parsed(issuer)
    own = ec.generate_private_key(ec.SECP256R1())
    builder = Builder(
        issuer_name=above.subject,
        subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)]),
        public_key=own.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=above.not_valid_before_utc.replace(tzinfo=None),
        not_valid_after=above.not_valid_after_utc.replace(tzinfo=None),
    )
    builder = _with(x509.SubjectAlternativeName([x509.DNSName(HOST)]))(builder)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _backwards(leaf: bytes) -> bytes:
    """The two times of a certificate exchanged; its signature is no longer good, which no linter minds."""
    parsed = _parsed(leaf)
    times = [
        when.strftime("%y%m%d%H%M%SZ").encode()
        for when in (parsed.not_valid_before_utc, parsed.not_valid_after_utc)
    ]
    tag = b"\x17\x0d"
    old = tag + times[0] + tag + times[1]
    assert old in leaf
    return leaf.replace(old, tag + times[1] + tag + times[0])
