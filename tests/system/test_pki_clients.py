"""Real clients of the CA, or exactly their calls: hvac's whole pki class, cert-manager, istio-csr, SPIRE, Terraform."""

from __future__ import annotations

import inspect
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hvac
import pytest
from cryptography import x509
from hvac.api.secrets_engines import Pki

from tests.harness.api import Api

Mount = Callable[[str], str]
ROOT: dict[str, Any] = {"common_name": "Client Root", "key_type": "ec", "ttl": "700h"}


def openssl(folder: Path, *arguments: str) -> str:
    """Output of the command."""
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=True, text=True)
    return done.stdout


def request(folder: Path, subject: str, san: str = "") -> str:
    """A CSR as a client makes it."""
    stem = secrets.token_hex(4)
    openssl(folder, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{stem}.key")
    extension = ["-addext", f"subjectAltName={san}"] if san else []
    return openssl(folder, "req", "-new", "-key", f"{stem}.key", "-subj", subject, *extension)


def verifies(folder: Path, leaf: str, chain: list[str]) -> None:
    """`openssl verify` from the leaf to the last of the chain, strictly."""
    (folder / "leaf.pem").write_text(leaf)
    (folder / "chain.pem").write_text("\n".join(chain[:-1]) or chain[-1])
    (folder / "root.pem").write_text(chain[-1])
    openssl(folder, "verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "chain.pem", "leaf.pem")


@pytest.fixture
def ca(api: Api, mount: Mount) -> str:
    """A mount with a root and a role that allows what these clients ask for."""
    path = mount("pki")
    assert api.post(f"{path}/root/generate/internal", ROOT).status == 200
    role = {
        "allow_any_name": True,
        "require_cn": False,
        "allowed_uri_sans": "*",
        "key_type": "any",
        "ttl": "1h",
    }
    assert api.post(f"{path}/roles/mesh", role).status == 200
    return path


def test_hvac_drives_every_method_of_its_pki_class(
    root: hvac.Client, mount: Mount, ca: str, tmp_path: Path
) -> None:
    called: set[str] = set()
    pki = root.secrets.pki

    def do(name: str, *args: Any, at: str = ca, **more: Any) -> Any:
        called.add(name)
        return getattr(pki, name)(*args, mount_point=at, **more)

    below, imported = mount("pki"), mount("pki")
    assert do("generate_root", "internal", "Hvac Root", {"key_type": "ec"}, at=below)["data"]["issuer_id"]
    do("delete_root", at=below)
    csr = do("generate_intermediate", "internal", "Hvac Sub", {"key_type": "ec"}, at=below)["data"]["csr"]
    signed = do("sign_intermediate", csr, "Hvac Sub", {"ttl": "300h"})["data"]
    assert do("set_signed_intermediate", signed["certificate"], at=below)["data"]["imported_issuers"]
    assert "BEGIN CERTIFICATE" in do("read_ca_certificate")
    assert "BEGIN CERTIFICATE" in do("read_ca_certificate_chain")
    role = do("create_or_update_role", "h", {"allow_any_name": True, "key_type": "ec"})
    assert role["data"]["allow_any_name"]
    assert do("read_role", "h")["data"]["key_type"] == "ec"
    assert do("list_roles")["data"]["keys"] == ["h", "mesh"]
    leaf = do("generate_certificate", "h", "a.example.com")["data"]
    verifies(tmp_path, leaf["certificate"], leaf["ca_chain"])
    own = request(tmp_path, "/CN=b.example.com", "DNS:b.example.com")
    assert do("sign_certificate", "h", own, "b.example.com")["data"]["serial_number"]
    assert do("sign_verbatim", own)["data"]["certificate"]
    assert do("sign_verbatim", own, "h")["data"]["certificate"]
    assert leaf["serial_number"] in do("list_certificates")["data"]["keys"]
    assert do("read_certificate", leaf["serial_number"])["data"]["revocation_time"] == 0
    assert do("revoke_certificate", leaf["serial_number"])["data"]["revocation_time"]
    assert do("rotate_crl")["data"]["success"]
    assert "X509 CRL" in do("read_crl")
    do("set_crl_configuration", "48h", False)
    assert do("read_crl_configuration")["data"]["expiry"] == "48h"
    do("set_urls", {"issuing_certificates": ["http://ca.example.com/ca"]})
    assert do("read_urls")["data"]["issuing_certificates"] == ["http://ca.example.com/ca"]
    bundle = foreign_ca(tmp_path)
    assert do("submit_ca_information", bundle, at=imported)["data"]["imported_keys"]
    alone = bundle[bundle.index("-----BEGIN CERTIFICATE") :]
    assert "BEGIN CERTIFICATE" in do("sign_self_issued", alone)["data"]["certificate"]
    issuers = do("list_issuers", at=below)["data"]["keys"]
    assert do("read_issuer", issuers[0], at=below)["data"]["issuer_id"] == issuers[0]
    do("update_issuer", issuers[0], {"issuer_name": "renamed"}, at=below)
    assert do("revoke_issuer", "renamed", at=below)["data"]["revoked"]
    do("delete_issuer", "renamed", at=below)
    do("delete_role", "h")
    assert do("tidy", {"tidy_cert_store": True}).status_code == 202
    every = {name for name, _ in inspect.getmembers(Pki, inspect.isfunction) if not name.startswith("_")}
    assert called == every


def foreign_ca(folder: Path) -> str:
    """A private key and its self-signed CA certificate, from elsewhere."""
    openssl(folder, "ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", "ca.key")
    wanted = [
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
    ]
    certificate = openssl(
        folder, "req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=Foreign Root", "-days", "300", *wanted
    )
    return (folder / "ca.key").read_text() + certificate


def by_approle(api: Api, path: str) -> str:
    """The token of an AppRole that may update one path, got as these clients get it."""
    method, policy = f"approle-{secrets.token_hex(3)}", f"client-{secrets.token_hex(3)}"
    api.ok("POST", f"sys/auth/{method}", {"type": "approle"})
    api.ok("POST", f"sys/policies/acl/{policy}", {"policy": f'path "{path}" {{ capabilities = ["update"] }}'})
    api.ok("POST", f"auth/{method}/role/client", {"token_policies": policy})
    login = {
        "role_id": api.get(f"auth/{method}/role/client/role-id").data["role_id"],
        "secret_id": api.post(f"auth/{method}/role/client/secret-id", {}).data["secret_id"],
    }
    with Api(api.address) as anybody:
        assert anybody.get("sys/health").status == 200
        token: str = anybody.post(f"auth/{method}/login", login).json["auth"]["client_token"]
    return token


@pytest.fixture
def signer(api: Api, ca: str) -> Iterator[Api]:
    """An issuer of cert-manager: it may sign under one role, and nothing else."""
    with Api(api.address, by_approle(api, f"{ca}/sign/mesh")) as client:
        yield client


def test_cert_manager_and_istio_csr_sign_with_their_exact_body(signer: Api, ca: str, tmp_path: Path) -> None:
    assert signer.post(f"{ca}/issue/mesh", {"common_name": "www.example.com"}).status == 403
    wishes = (
        ("/CN=www.example.com", "DNS:www.example.com,DNS:api.example.com", "www.example.com", ""),
        # istio-csr: an empty subject and one SPIFFE ID.
        ("/", "URI:spiffe://cluster.local/ns/default/sa/web", "", "spiffe://cluster.local/ns/default/sa/web"),
    )
    for subject, san, common_name, uris in wishes:
        body = {
            "common_name": common_name,
            "alt_names": "www.example.com,api.example.com" if common_name else "",
            "ip_sans": "",
            "uri_sans": uris,
            "ttl": "24h0m0s",
            "csr": request(tmp_path, subject, san),
            "exclude_cn_from_sans": "true",
        }
        data = signer.post(f"{ca}/sign/mesh", body).data
        # What cert-manager's bundle parser needs: one PEM block each, and a chain from the issuer upwards.
        assert data["certificate"].count("BEGIN CERTIFICATE") == 1
        assert data["ca_chain"][0] == data["issuing_ca"]
        verifies(tmp_path, data["certificate"], data["ca_chain"])
        leaf = x509.load_pem_x509_certificate(data["certificate"].encode())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert names.critical is not bool(common_name)
        life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        assert abs(life.total_seconds() - 86_400) < 60


def test_spire_gets_its_authority_signed_with_an_approle(api: Api, ca: str, tmp_path: Path) -> None:
    token = by_approle(api, f"{ca}/root/sign-intermediate")
    csr = request(tmp_path, "/C=US/O=SPIFFE", "URI:spiffe://example.org")
    body = {
        "common_name": "",
        "organization": "SPIFFE",
        "country": "US",
        "csr": csr,
        "ttl": "100h",
        "uri_sans": "spiffe://example.org",
    }
    with Api(api.address, token) as spire:
        data = spire.call("PUT", f"{ca}/root/sign-intermediate", body).data
        assert spire.post(f"{ca}/root/generate/internal", ROOT).status == 403
    authority = x509.load_pem_x509_certificate(data["certificate"].encode())
    names = authority.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://example.org"]
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert data["ca_chain"][-1] == data["issuing_ca"]
    verifies(tmp_path, data["certificate"], data["ca_chain"][1:])


# Resource of the Terraform provider -> path, what it writes, and the path that it reads afterwards.
TERRAFORM: dict[str, tuple[str, dict[str, Any], str]] = {
    "config_urls": (
        "config/urls",
        {
            "issuing_certificates": ["http://ca.example.com/ca"],
            "crl_distribution_points": ["http://ca.example.com/crl"],
            "ocsp_servers": ["http://ca.example.com/ocsp"],
            "enable_templating": False,
        },
        "config/urls",
    ),
    "crl_config": (
        "config/crl",
        {
            "expiry": "72h",
            "disable": False,
            "ocsp_disable": False,
            "ocsp_expiry": "12h",
            "auto_rebuild": False,
        },
        "config/crl",
    ),
    "config_cluster": (
        "config/cluster",
        {"path": "https://ca.example.com/v1/pki", "aia_path": "http://cdn.example.com/pki"},
        "config/cluster",
    ),
    "config_auto_tidy": (
        "config/auto-tidy",
        {"enabled": True, "interval_duration": 43200, "tidy_cert_store": True, "safety_buffer": 3600},
        "config/auto-tidy",
    ),
    "key": ("keys/generate/internal", {"key_type": "ec", "key_bits": 256, "key_name": "tf"}, "key/tf"),
    "issuer": (
        "issuer/default",
        {
            "issuer_name": "tf",
            "leaf_not_after_behavior": "truncate",
            "ocsp_servers": ["http://o.example.com"],
        },
        "issuer/tf",
    ),
    "role": (
        "roles/tf",
        {
            "allowed_domains": ["example.com"],
            "allow_subdomains": True,
            "key_type": "ec",
            "key_bits": 384,
            "key_usage": ["DigitalSignature"],
            "ext_key_usage": ["ServerAuth"],
            "max_ttl": 7200,
            "no_store": True,
            "policy_identifiers": ['{"oid":"1.3.6.1.4.1.99999.1","cps":"https://ca.example.com/cps"}'],
            "organization": ["ACME"],
            "not_before_duration": 60,
        },
        "roles/tf",
    ),
}


# What a read does not show, in the real server's answers either: these are said once, when the thing is made.
SAID_ONCE = {"key": {"key_bits"}}


@pytest.fixture
def terraform(api: Api) -> Iterator[Api]:
    """As the provider begins: the seal, itself, and a child token of its own."""
    assert api.get("sys/seal-status").json["sealed"] is False
    itself = api.get("auth/token/lookup-self").data
    assert {"policies", "ttl", "type", "expire_time"} <= set(itself)
    child = {"ttl": "1200s", "explicit_max_ttl": "1200s", "renewable": False, "display_name": "terraform"}
    made = api.post("auth/token/create", child).json["auth"]
    assert (made["lease_duration"], made["renewable"]) == (1200, False)
    with Api(api.address, made["client_token"]) as client:
        yield client


def test_terraform_reads_back_what_it_wrote(terraform: Api, ca: str) -> None:
    api = terraform
    for name, (path, wanted, read) in TERRAFORM.items():
        assert api.post(f"{ca}/{path}", wanted).status == 200, name
        found = api.get(f"{ca}/{read}").data
        shown = {key: value for key, value in wanted.items() if key not in SAID_ONCE.get(name, ())}
        # One that is missing is drift as well.
        drift = {key: found.get(key, "missing") for key, value in shown.items() if found.get(key) != value}
        assert not drift, (name, drift)
    chosen = api.get(f"{ca}/issuer/tf").data["issuer_id"]
    assert api.post(f"{ca}/config/issuers", {"default": chosen}).data["default"] == chosen
    assert api.get(f"{ca}/config/issuers").data["default"] == chosen


def test_terraform_sends_policies_as_one_text(terraform: Api, ca: str) -> None:
    """The provider's `policy_identifier` blocks become a JSON list in a text."""
    blocks = '[{"oid":"1.3.6.1.4.1.7.8","notice":"A, and B"},{"oid":"1.2.3.4"}]'
    role = {"allow_any_name": True, "key_type": "ec", "policy_identifiers": blocks}
    made = terraform.post(f"{ca}/roles/policies", role).data
    assert made["policy_identifiers"] == [
        '{"oid":"1.3.6.1.4.1.7.8","notice":"A, and B"}',
        '{"oid":"1.2.3.4"}',
    ]
    leaf = terraform.post(f"{ca}/issue/policies", {"common_name": "a.example.com"}).data["certificate"]
    found = x509.load_pem_x509_certificate(leaf.encode()).extensions
    policies = found.get_extension_for_class(x509.CertificatePolicies).value
    assert [one.policy_identifier.dotted_string for one in policies] == ["1.3.6.1.4.1.7.8", "1.2.3.4"]
    (notice,) = list(policies[0].policy_qualifiers or ())
    assert isinstance(notice, x509.UserNotice)
    assert notice.explicit_text == "A, and B"


def test_terraform_makes_an_intermediate_from_three_resources(terraform: Api, mount: Mount, ca: str) -> None:
    api = terraform
    below = mount("pki")
    wanted = {
        "common_name": "Terraform Sub",
        "key_type": "rsa",
        "key_bits": 2048,
        "format": "pem",
        "private_key_format": "der",
        "exclude_cn_from_sans": True,
    }
    made = api.post(f"{below}/intermediate/generate/internal", wanted).data
    signed = api.post(
        f"{ca}/root/sign-intermediate",
        {**wanted, "csr": made["csr"], "use_csr_values": False, "max_path_length": -1, "ttl": "500h"},
    ).data
    imported = api.post(
        f"{below}/intermediate/set-signed", {"certificate": "\n".join(signed["ca_chain"])}
    ).data
    assert made["key_id"] in imported["mapping"].values()
    assert api.get(f"{below}/issuer/default").data["key_id"] == made["key_id"]
