"""A small ACME client that says exactly what it sends, right or wrong."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

JOSE = "application/jose+json"
ERROR = "urn:ietf:params:acme:error:"
WAIT_SECONDS = 60


def b64(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk_of(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """The public half."""
    numbers = key.public_key().public_numbers()
    return {"kty": "EC", "crv": "P-256", "x": b64(numbers.x.to_bytes(32)), "y": b64(numbers.y.to_bytes(32))}


def thumbprint(key: ec.EllipticCurvePrivateKey) -> str:
    """RFC 7638."""
    text = json.dumps(jwk_of(key), sort_keys=True, separators=(",", ":"))
    return b64(hashlib.sha256(text.encode()).digest())


def new_key() -> ec.EllipticCurvePrivateKey:
    """P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def sign(key: ec.EllipticCurvePrivateKey, header: dict[str, Any], payload: bytes) -> dict[str, str]:
    """A flattened JWS with ES256."""
    protected = b64(json.dumps({"alg": "ES256", **header}).encode())
    r, s = decode_dss_signature(key.sign(f"{protected}.{b64(payload)}".encode(), ec.ECDSA(hashes.SHA256())))
    return {
        "protected": protected,
        "payload": b64(payload),
        "signature": b64(r.to_bytes(32) + s.to_bytes(32)),
    }


@dataclass
class Reply:
    """Status, headers and the parsed body."""

    status: int
    headers: httpx.Headers
    content: bytes = field(repr=False)

    @property
    def json(self) -> dict[str, Any]:
        """The body."""
        parsed: dict[str, Any] = json.loads(self.content) if self.content.strip() else {}
        return parsed

    @property
    def problem(self) -> str:
        """The last part of the type of a problem document; fails for anything else."""
        assert self.headers["content-type"] == "application/problem+json", (self.status, self.content)
        assert self.json["status"] == self.status
        kind: str = self.json["type"]
        assert kind.startswith(ERROR)
        return kind.removeprefix(ERROR)

    def ok(self, status: int = 200) -> Reply:
        """Fails unless it is a success with this code."""
        assert self.status == status, (self.status, self.content)
        return self


class Client:
    """One account key and its directory."""

    def __init__(self, directory: str, key: ec.EllipticCurvePrivateKey | None = None) -> None:
        self.http = httpx.Client(timeout=30, trust_env=False)
        self.key = key or new_key()
        self.kid = ""
        self.directory: dict[str, Any] = self.http.get(directory).raise_for_status().json()

    def nonce(self) -> str:
        """A fresh one."""
        return self.http.head(self.directory["newNonce"]).headers["Replay-Nonce"]

    def post(self, url: str, payload: object = None, **changes: Any) -> Reply:
        """A signed request; None is a POST-as-GET. `changes` replace members of the protected header."""
        identity = {"kid": self.kid} if self.kid else {"jwk": jwk_of(self.key)}
        header = {"url": url, "nonce": self.nonce() if "nonce" not in changes else "", **identity, **changes}
        header = {name: value for name, value in header.items() if value is not None}
        data = b"" if payload is None else json.dumps(payload).encode()
        return self.send(url, sign(self.key, header, data))

    def send(self, url: str, body: object, content_type: str = JOSE) -> Reply:
        """Any body."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.http.post(url, content=content, headers={"Content-Type": content_type})
        return Reply(answer.status_code, answer.headers, answer.content)

    def register(self, **wish: Any) -> Reply:
        """NewAccount."""
        reply = self.post(self.directory["newAccount"], {"termsOfServiceAgreed": True, **wish})
        if reply.status in {200, 201}:
            self.kid = reply.headers["Location"]
        return reply

    def order(self, *names: str, **wish: Any) -> Reply:
        """NewOrder for host names, or identifiers given as {"type", "value"}."""
        identifiers = [{"type": "dns", "value": name} for name in names]
        return self.post(self.directory["newOrder"], {"identifiers": identifiers, **wish})

    def challenges(self, order: Reply) -> list[dict[str, Any]]:
        """The challenges of each authorization, by type."""
        found = []
        for url in order.json["authorizations"]:
            authorization = self.post(url).ok().json
            found.append({one["type"]: one for one in authorization["challenges"]} | {"url": url})
        return found

    def key_authorization(self, token: str) -> str:
        """What the challenge is to show."""
        return f"{token}.{thumbprint(self.key)}"

    def settled(self, url: str) -> dict[str, Any]:
        """An authorization or order, once it is no longer pending or processing."""
        end = time.monotonic() + WAIT_SECONDS
        while True:
            body = self.post(url).ok().json
            if body["status"] not in {"pending", "processing"}:
                return body
            assert time.monotonic() < end, body
            time.sleep(0.1)

    def finalize(self, order: Reply, csr: bytes) -> Reply:
        """With a CSR in DER."""
        return self.post(order.json["finalize"], {"csr": b64(csr)})

    def chain(self, order: Reply) -> list[x509.Certificate]:
        """The certificate of a finished order, and what comes after it."""
        text = self.post(order.json["certificate"]).ok().content
        return x509.load_pem_x509_certificates(text)


def csr(
    key: ec.EllipticCurvePrivateKey, *names: str, common_name: str = "", addresses: tuple[Any, ...] = ()
) -> bytes:
    """A CSR in DER."""
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    general = [*(x509.DNSName(name) for name in names), *(x509.IPAddress(one) for one in addresses)]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if general:
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def binding(client: Client, kid: str, key: str, **changes: Any) -> dict[str, str]:
    """ExternalAccountBinding for the client's key."""
    header = {"alg": "HS256", "kid": kid, "url": client.directory["newAccount"], **changes}
    protected = b64(json.dumps(header).encode())
    payload = b64(json.dumps(jwk_of(client.key)).encode())
    secret = base64.urlsafe_b64decode(key + "=" * (-len(key) % 4))
    mac = hmac.digest(secret, f"{protected}.{payload}".encode(), "sha256")
    return {"protected": protected, "payload": payload, "signature": b64(mac)}
