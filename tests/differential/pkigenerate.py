"""Requests for each declared path of pki: one thing wrong at a time, each parameter with right and wrong values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from tests.differential.generate import WRONG, Declared, declared
from tests.differential.pkivalues import CSR, KEY_PEM, MINIMAL, SELF_SIGNED, VALID
from tests.differential.sides import DENIED, Request

DECLARED = Path(__file__).parent / "pki.txt"
TTL = {"default_lease_ttl": "24h", "max_lease_ttl": "8760h"}
_LISTS: dict[str, Any] = {
    "text": "x", "number": 5, "flag": True, "numbers": [5], "map": {"a": 1}, "empty": [], "null": None, "blank": "",
}  # fmt: skip
_WRONG = {
    **WRONG,
    "[string]": _LISTS,
    "integer:int64": WRONG["integer"],
    "object:map": {"text": "x", "number": 5, "null": None},
}
# Paths that make an issuer or a key each time: a mount of their own, emptied often.
MAKES = re.compile(
    r"root/(generate|rotate)|intermediate/(generate|cross-sign)|issuers/generate|keys/(generate|import)"
    r"|issuers/import|config/ca|intermediate/set-signed"
)
_TWICE = re.compile(
    r"root/rotate|issuers/generate|intermediate/cross-sign|issuer/{issuer_ref}/(issue|sign)|sign-verbatim/{role}"
)
_EMPTIED_AFTER = 40
# Of the wrong values, those that paths are asked which make something each time they succeed.
_FEW = ("text", "number", "map", "null")
_KEY_FIELDS = ("key_type", "key_bits", "key_name", "key_ref", "exported", "signature_bits", "use_pss")


def standing(*, leaves: bool = True) -> Iterator[Request]:
    """The CA, role and certificates that requests stand on."""
    yield from _settings()
    root = {
        "common_name": "Standing Root",
        "key_type": "ec",
        "ttl": "4380h",
        "issuer_name": "main",
        "key_name": "k",
    }
    yield Request("POST", "root/generate/internal", root, keep=(("ca", "certificate"),))
    other = {**root, "common_name": "Other Root", "issuer_name": "other", "key_name": "k-other"}
    keep = (("other issuer", "issuer_id"), ("other key", "key_id"))
    yield Request("POST", "root/generate/internal", other, keep=keep)
    yield Request("POST", "config/issuers", {"default": "main", "default_follows_latest_issuer": False})
    role = {"allow_any_name": True, "key_type": "any", "max_ttl": "72h", "allowed_uri_sans": "*",
            "allowed_other_sans": "*", "allowed_user_ids": "*", "allowed_serial_numbers": "*"}  # fmt: skip
    yield Request("POST", "roles/web", role)
    if not leaves:
        return
    issue = {"common_name": "a.example.com", "key_type": "ec", "key_bits": 256}
    for name in ("leaf", "second", "third"):
        kept = ((f"{name} serial", "serial_number"), (f"{name} key", "private_key"), (name, "certificate"))
        yield Request("POST", "issue/web", issue, keep=kept)


def loose(request: Request) -> bool:
    """Whether only the status of a refusal counts: for values of a wrong type, whose texts are a parser's."""
    return " is " in request.what


def _settings() -> Iterator[Request]:
    """Back to the beginning, whatever the requests before have set."""
    lists = (
        "issuing_certificates",
        "crl_distribution_points",
        "ocsp_servers",
        "delta_crl_distribution_points",
    )
    yield Request(
        "POST", "config/urls", {**{name: [] for name in lists}, "enable_templating": False}, "reset"
    )
    times = {
        "expiry": "72h",
        "ocsp_expiry": "12h",
        "auto_rebuild_grace_period": "12h",
        "delta_rebuild_interval": "15m",
    }
    flags = ("allow_expired_cert_revocation", "auto_rebuild", "disable", "enable_delta", "ocsp_disable")
    yield Request("POST", "config/crl", {**times, **dict.fromkeys(flags, False)}, "reset")


class PkiGenerator:
    """Makes the requests. `makes` chooses the half that leaves issuers and keys behind."""

    def __init__(self, *, makes: bool) -> None:
        self._makes = makes
        self._fresh = count(1)
        self._since = 0

    def all(self) -> Iterator[Request]:
        """Every request of this half, with what it needs before it."""
        for path in declared(DECLARED):
            where = path.path.removeprefix("/pki/")
            if bool(MAKES.match(where)) is self._makes:
                yield Request("DELETE", "root", what="emptied")
                yield from standing(leaves=where.startswith(("cert", "revoke")))
                for request in self.of(Declared(path.verbs, where, path.fields)):
                    yield from self._emptied()
                    yield request

    def _emptied(self) -> Iterator[Request]:
        self._since += 1
        if self._makes and self._since % _EMPTIED_AFTER == 0:
            yield Request("DELETE", "root", what="emptied")
            yield from standing(leaves=False)

    def of(self, path: Declared) -> Iterator[Request]:
        """The requests of one path."""
        for verb in path.verbs:
            yield from self._verb(path, verb)
        for verb in sorted({"GET", "LIST", "POST", "DELETE", "PATCH"} - set(path.verbs)):
            yield Request(verb, self.fill(path.path), None, "another verb")

    def _verb(self, path: Declared, verb: str) -> Iterator[Request]:
        body = dict(MINIMAL.get(path.path, {})) if verb in ("POST", "PATCH") else None
        yield from self._before(path, verb)
        yield Request(verb, self.fill(path.path), body, "minimal")
        yield Request(verb, self.fill(path.path), body, "denied", token=DENIED)
        for name in re.findall(r"{(\w+)}", path.path):
            # The default key and issuer stay as they are.
            for value in (
                ("nosuch", "a b") if verb in ("POST", "PATCH", "DELETE") else ("nosuch", "a b", "default")
            ):
                yield Request(verb, self.fill(path.path, {name: value}), body, f"{name} {value}")
        if body is None:
            return
        for name in body:
            without = {key: value for key, value in body.items() if key != name}
            yield Request(verb, self.fill(path.path), without, f"without {name}")
        yield Request(verb, self.fill(path.path), {**body, "bogus": 1}, "an unknown parameter")
        yield from self._parameters(path, verb, body)

    def _parameters(self, path: Declared, verb: str, body: dict[str, Any]) -> Iterator[Request]:
        for name, type_ in path.fields:
            base = type_.partition("{")[0]
            for value in VALID.get(name, ()):
                if verb == "PATCH" and path.path == "roles/{name}":
                    yield Request("POST", self.fill(path.path), {}, "reset")
                where, rest = self._where(path, name) if verb == "POST" else (self.fill(path.path), body)
                yield Request(verb, where, {**rest, name: value}, f"{name} = {value}")
            if _TWICE.match(path.path) or verb == "PATCH":
                continue  # the same parameters as another path's, which is asked everything
            for what, value in _WRONG[base].items():
                if self._makes and what not in _FEW:
                    continue
                where, rest = self._where(path, name)
                yield Request(verb, where, {**rest, name: value}, f"{name} is {what}")

    def _where(self, path: Declared, name: str) -> tuple[str, dict[str, Any]]:
        """Where a parameter is tried, and the rest of the body: with a key that is there unless keys are meant."""
        body = dict(MINIMAL.get(path.path, {}))
        if "{exported}" not in path.path or name in _KEY_FIELDS:
            return self.fill(path.path), body
        # A name of its own each time: the peer takes few CA certificates of one name and key.
        body["common_name"] = f"{body['common_name']} {next(self._fresh)}"
        del body["key_type"]
        return self.fill(path.path, {"exported": "existing"}), body

    def _before(self, path: Declared, verb: str) -> Iterator[Request]:
        """What a request that takes something away needs."""
        if (path.path, verb) == ("issuer/{issuer_ref}/revoke", "POST"):
            yield Request(
                "POST",
                "root/generate/internal",
                {"common_name": "Gone Root", "key_type": "ec", "issuer_name": "gone"},
            )

    def fill(self, path: str, values: dict[str, str] | None = None) -> str:
        """A path with its parameters."""
        standard = {
            "exported": "internal",
            "issuer_ref": "gone"
            if path.endswith("/revoke")
            else "other"
            if path == "issuer/{issuer_ref}"
            else "main",
            "role": "web",
            "name": "changing",
            "key_ref": "{other key}",
            "serial": "{leaf serial}",
        }
        for name, value in {**standard, **(values or {})}.items():
            path = path.replace(f"{{{name}}}", value)
        return path


__all__ = ["CSR", "KEY_PEM", "MAKES", "SELF_SIGNED", "TTL", "PkiGenerator", "standing"]
