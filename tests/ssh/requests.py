"""Requests to an ssh mount: each declared parameter wrong in turn, and roles against what may be asked of them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path
from typing import Any

from tests.differential.generate import VERBS, WRONG, Declared, declared
from tests.differential.sides import DENIED, Request
from tests.harness.sshd import keygen

PATHS = Path(__file__).parent / "paths.txt"
WRONG_HERE: dict[str, dict[str, Any]] = {
    **WRONG,
    "map": {
        "text": "x", "list": ["a"], "pairs": ["permit-pty=b"], "pair": "permit-pty=b", "number": 5, "null": None,
        "empty": {}, "deep": {"permit-pty": {"b": 1}}, "numbers": {"permit-pty": 5}, "flags": {"permit-pty": True},
        "nulls": {"permit-pty": None}, "fractions": {"permit-pty": 1.5}, "spaced": {"permit pty": ""},
    },
    "strings": {"text": "passwords", "list": ["passwords"], "two": "passwords,users", "unknown": ["nosuch"],
                "number": 5, "map": {}, "null": None, "empty": []},
}  # fmt: skip
CA = {"key_type": "ca"}
USERS = {**CA, "allow_user_certificates": True, "allowed_users": "deploy,ops", "default_user": "deploy"}
ANYBODY = {**CA, "allow_user_certificates": True, "allowed_users": "*", "allowed_extensions": "*"}
HOSTS = {**CA, "allow_host_certificates": True, "allowed_domains": "example.test,other.test"}
# Roles that stay as they are.
ROLES: dict[str, dict[str, Any]] = {
    "users": USERS,
    "anybody": {**ANYBODY, "allow_user_key_ids": True, "key_id_format": "{{role_name}}-{{token_display_name}}"},
    "nobody": {**CA, "allow_user_certificates": True},
    "hosts": {**HOSTS, "allow_subdomains": True},
    "bare": {**HOSTS, "allow_bare_domains": True},
    "every-host": {**CA, "allow_host_certificates": True, "allowed_domains": "*"},
    "both": {**USERS, **HOSTS, "allow_subdomains": True, "allow_bare_domains": True, "ttl": "1h", "max_ttl": "2h"},
    "templated": {**USERS, "allowed_users_template": True, "allowed_users": "{{identity.entity.name}},ops"},
    "filled": {
        **USERS, "default_extensions": {"permit-pty": "", "login@x.test": "{{identity.entity.id}}"},
        "default_extensions_template": True, "default_critical_options": {"force-command": "/bin/true"},
        "allowed_critical_options": "force-command,source-address", "allowed_extensions": "permit-pty,permit-x",
    },
    "narrow": {**ANYBODY, "allowed_user_key_lengths": {"rsa": [2048], "ecdsa": 256}},
    "curves": {**ANYBODY, "allowed_user_key_lengths": {"ecdsa-sha2-nistp384": 0, "ed25519": [0]}},
    "sha512": {**ANYBODY, "algorithm_signer": "rsa-sha2-512"},
    "of-rsa": {**ANYBODY, "issuer_ref": "rsa-ca"},
    "of-rsa-512": {**ANYBODY, "issuer_ref": "rsa-ca", "algorithm_signer": "rsa-sha2-512"},
    "of-none": {**ANYBODY, "issuer_ref": "nosuch"},
    "passwords": {
        "key_type": "otp", "default_user": "ubuntu", "cidr_list": "10.0.0.0/8,192.0.2.0/24",
        "exclude_cidr_list": "10.1.0.0/16", "allowed_users": "ubuntu,admin",
    },
    "any-password": {"key_type": "otp", "default_user": "ubuntu", "cidr_list": "0.0.0.0/0", "allowed_users": "*"},
    "unlisted": {"key_type": "otp", "default_user": "ubuntu", "cidr_list": "10.0.0.0/8"},
}  # fmt: skip
PRINCIPALS = (None, "", "deploy", "ops", "ops, deploy,ops", "root", "*", "{{identity.entity.name}}", "example.test",
              "a.example.test", "a.b.example.test,other.test", "xexample.test", "*.example.test")  # fmt: skip
OF_KEYS = ("narrow", "curves", "sha512", "of-rsa-512")  # what they are about is another list
KINDS = ("user", "host", "", "robot")
MINIMAL: dict[str, dict[str, Any]] = {
    "config/ca": {"key_type": "ed25519"},
    "config/issuers": {"default": "other-ca"},
    "config/zeroaddress": {"roles": "passwords"},
    "creds/{role}": {"ip": "10.2.3.4"},
    "issue/{role}": {"key_type": "ed25519"},
    "issuer/{issuer_ref}": {"issuer_name": "renamed"},
    "issuers/import": {"key_type": "ec", "issuer_name": "fresh"},
    "issuers/import/{issuer_name}": {"key_type": "ec"},
    "lookup": {"ip": "10.2.3.4"},
    "roles/{role}": USERS,
    "sign/{role}": {},
    "verify": {"otp": "verify-echo-request"},
}
SEGMENTS = {"sign/{role}": "users", "issue/{role}": "users", "creds/{role}": "passwords"}
VALID: dict[str, tuple[Any, ...]] = {
    "key_type": ("otp", "dynamic", "CA", "rsa", "ed25519", "ssh-ed25519", "ecdsa-sha2-nistp521", "bogus"),
    "key_bits": (256, 384, 521, 1024, 2048),
    "cert_type": ("host",),
    "valid_principals": ("ops", "root", "deploy,ops"),
    "key_id": ("mine",),
    "ttl": (60, "2h", 0, "9999h"),
    "extensions": ({"permit-pty": ""}, {"permit-x": "y"}),
    "critical_options": ({"force-command": "x"}, {"source-address": "10.0.0.0/8"}, {"bogus@x.test": "z"}),
    "algorithm_signer": ("default", "rsa-sha2-256", "rsa-sha2-512", "ssh-rsa", "bogus"),
    "default_extensions": ({"permit-pty": ""}, {"a@b.test": "c"}),
    "default_critical_options": ({"force-command": "x"},),
    "allowed_user_key_lengths": ({"rsa": 2048}, {"rsa": [2048, 4096]}, {"ec": "256"}, {"ec": "x"}, {"ed25519": 0}),
    "cidr_list": ("10.0.0.0/8", "10.0.0.0", "bogus", "10.0.0.0/8,bogus"),
    "exclude_cidr_list": ("10.0.0.0/8", "bogus"),
    "ip": ("10.1.2.3", "192.0.2.7", "203.0.113.9", "bogus", "::1", "10.02.3.4"),
    "username": ("ubuntu", "admin", "root"),
    "otp": ("nosuch",),
    "port": (2222, 0),
    "max_ttl": ("1h", 60),
    "not_before_duration": (0, "1m"),
    "issuer_ref": ("rsa-ca", "nosuch"),
    "issuer_name": ("default", "Default", "a b", "rsa-ca", ""),
    "default": ("default", "nosuch", "rsa-ca", "{other}"),
    "set_default": (True,),
    "generate_signing_key": (True, False),
    **{f"allow_{name}": (True,) for name in (
        "bare_domains", "subdomains", "user_key_ids", "host_certificates", "empty_principals",
        "commas_in_identity_templates", "wildcards_in_identity_templates",
    )},
}  # fmt: skip
SPOILED = {
    "bogus": "!!",
    "words": "ssh-ed25519 notbase64!",
    "short": "ssh-ed25519 AAAA",
    "empty blob": "AAAAAA==",
    "other type": "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIHN6Q0wmtCjeHYFnA4JF/hjuDuMTxvvwxQRw6PY8yrmf",
}


@dataclass(frozen=True)
class Keys:
    """Public keys of subjects, by kind; and a certificate, which is none."""

    lines: dict[str, str]
    private: str

    @classmethod
    def make(cls, folder: Path) -> Keys:
        """With ssh-keygen."""
        kinds = {"ed25519": ("ed25519",), "p256": ("ecdsa", "-b", "256"), "p384": ("ecdsa", "-b", "384"),
                 "rsa2048": ("rsa", "-b", "2048"), "rsa3072": ("rsa", "-b", "3072"), "rsa1024": ("rsa", "-b", "1024"),
                 "imported": ("ed25519",)}  # fmt: skip
        lines = {name: keygen(folder / name, *kind) for name, kind in kinds.items()}
        lines["imported"] = lines["imported"].removesuffix(" test\n") + "\n"  # they keep the comment
        sign = [
            "ssh-keygen",
            "-q",
            "-s",
            str(folder / "ed25519"),
            "-I",
            "x",
            "-n",
            "y",
            str(folder / "p256.pub"),
        ]
        subprocess.run(sign, check=True)
        lines["certificate"] = (folder / "p256-cert.pub").read_text()
        return cls(lines, (folder / "imported").read_text())


class Requests:
    """All requests, in order."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._fresh = count(1)

    def setup(self) -> Iterator[Request]:
        """Before there is a CA; then the CAs and roles that stay."""
        for path in (
            "config/ca",
            "config/issuers",
            "public_key",
            "issuer/default",
            "issuer/default/public_key",
        ):
            yield Request("GET", path, what="before there is a CA")
        yield Request("LIST", "issuers", what="before there is a CA")
        yield Request("LIST", "roles", what="before there is a role")
        yield Request("GET", "config/zeroaddress", what="before there is one")
        made = (("other", "issuer_id"),)
        yield Request("POST", "issuers/import/other-ca", {"key_type": "ec"}, "first", keep=made)
        rsa = {"key_type": "rsa", "key_bits": 2048}
        yield Request("POST", "issuers/import/rsa-ca", rsa, "second")
        pair = {"private_key": self._keys.private, "public_key": self._keys.lines["imported"]}
        yield Request("POST", "config/ca", pair, "imported")
        yield Request("POST", "config/ca", pair, "imported again")
        yield Request("GET", "config/ca", what="imported")
        for name, role in ROLES.items():
            yield Request("POST", f"roles/{name}", role)
            yield Request("GET", f"roles/{name}")

    def all(self) -> Iterator[Request]:
        """Everything."""
        yield from self.setup()
        for path in declared(PATHS, "ssh"):
            if path.path != "config/ca":
                yield from self._of(path)
        yield from self._rules()
        yield from self._certifiable()
        yield from self._of(next(path for path in declared(PATHS, "ssh") if path.path == "config/ca"))

    def _rules(self) -> Iterator[Request]:
        """Each role against each kind and each list of principals."""
        roles = [name for name, role in ROLES.items() if role["key_type"] == "ca" and name not in OF_KEYS]
        for role, kind, names in product(roles, KINDS, PRINCIPALS):
            if kind not in {"user", "host"} and names not in {None, "ops"}:
                continue
            body: dict[str, Any] = {"public_key": self._keys.lines["ed25519"], "cert_type": kind}
            body |= {} if names is None else {"valid_principals": names}
            yield Request("POST", f"sign/{role}", body, f"{kind or 'no kind'} for {names}")
        for role, (what, options) in product(
            roles, enumerate(VALID["extensions"] + VALID["critical_options"])
        ):
            name = "extensions" if what < len(VALID["extensions"]) else "critical_options"
            body = {"public_key": self._keys.lines["ed25519"], "valid_principals": "ops", name: options}
            yield Request("POST", f"sign/{role}", body, f"{name} {options}")
        for role, ttl in product(("both", "users"), ("1m", "3h", 0, -5)):
            body = {"public_key": self._keys.lines["ed25519"], "valid_principals": "ops", "ttl": ttl}
            yield Request("POST", f"sign/{role}", body, f"ttl {ttl}")

    def _certifiable(self) -> Iterator[Request]:
        """Each kind of key to be signed, and to be made, against the roles that mind."""
        for role in ("anybody", "narrow", "curves", "of-rsa", "of-rsa-512", "sha512"):
            for name, line in {**self._keys.lines, **SPOILED}.items():
                body = {"public_key": line, "valid_principals": "ops"}
                yield Request("POST", f"sign/{role}", body, f"a key {name}")
            for kind, bits in (("ed25519", 0), ("ec", 0), ("ec", 256), ("ec", 384), ("ec", 100), ("rsa", 2048),
                               ("rsa", 1024), ("ssh-ed25519", 0), ("ecdsa-sha2-nistp384", 384), ("dsa", 0)):  # fmt: skip
                made: dict[str, Any] = {"key_type": kind, "key_bits": bits, "valid_principals": "ops"}
                yield Request("POST", f"issue/{role}", made, f"a new {kind} {bits}")

    def _of(self, path: Declared) -> Iterator[Request]:
        for verb in path.verbs:
            yield from self._verb(path, verb)
        for verb in VERBS:
            if verb not in path.verbs:
                yield Request(verb, self._fill(path.path), None, "another verb")

    def _verb(self, path: Declared, verb: str) -> Iterator[Request]:
        body = self._minimal(path) if verb == "POST" else {}
        yield from self._one(path, verb, body, "denied", DENIED)
        if "{" in path.path:
            yield Request(verb, re.sub(r"{\w+}", "nosuch", path.path), body, "an unknown name")
        yield from self._one(path, verb, body, "minimal")
        if verb != "POST":
            return
        for name in body:
            without = {key: value for key, value in body.items() if key != name}
            # Without a type they make RSA keys of 4096 bits, which takes seconds.
            quick = {"key_bits": 2048} if name == "key_type" and path.path != "roles/{role}" else {}
            yield from self._one(path, verb, {**without, **quick}, f"without {name}")
        yield from self._one(path, verb, {**body, "bogus": 1}, "an unknown parameter")
        for name, type_ in path.fields:
            if name == "private_key":
                continue
            for value in VALID.get(name, ()):
                quick = {"key_bits": 2048} if value == "rsa" else {}
                yield from self._one(path, verb, {**body, **quick, name: value}, f"{name} = {value}")
            wrong = (
                {} if path.path == "issuers/import" else WRONG_HERE[type_]
            )  # they are those of the next path
            for what, value in wrong.items():
                quick = {"key_bits": 2048} if name == "key_type" else {}
                yield from self._one(path, verb, {**body, **quick, name: value}, f"{name} is {what}")

    def _minimal(self, path: Declared) -> dict[str, Any]:
        if path.path == "sign/{role}":
            return {"public_key": self._keys.lines["ed25519"], "valid_principals": "ops"}
        return MINIMAL.get(path.path, {})

    def _one(
        self, path: Declared, verb: str, body: dict[str, Any], what: str, token: str = ""
    ) -> Iterator[Request]:
        number = next(self._fresh)
        where, body = self._fill(path.path, number), dict(body)
        if body.get("issuer_name") in ("fresh", "renamed"):
            body["issuer_name"] = f"ca-{number}"
        if path.path == "issuer/{issuer_ref}" and verb != "GET":
            where = f"issuer/made-{number}"
            yield Request("POST", f"issuers/import/made-{number}", {"key_type": "ed25519"}, "for the next")
        yield Request(verb, where, body, what, token)
        if token:
            return
        if path.path == "roles/{role}" and verb == "POST" and " is " not in what:
            yield Request("GET", where, None, f"after {what}")
        elif path.path in {"config/ca", "config/issuers", "issuers/import", "issuers/import/{issuer_name}"}:
            yield Request("POST", "config/issuers", {"default": "other-ca"}, f"as it was, after {what}")
        elif path.path == "config/zeroaddress":
            yield Request("GET", where, None, f"after {what}")
            yield Request("POST", "lookup", {"ip": "203.0.113.9"}, f"after {what}")

    def _fill(self, path: str, number: int = 0) -> str:
        name = SEGMENTS.get(path, f"r{number}" if number else "users")
        return (
            path.replace("{role}", name)
            .replace("{issuer_ref}", "other-ca")
            .replace("{issuer_name}", f"n{number}")
        )
