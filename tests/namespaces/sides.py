"""Two servers that are asked the same: requests in namespaces, and what of their answers is compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt

from tests.harness.dev import DevServer
from tests.policy.peer import running

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[\d.]*Z\Z")
# What is new each time, the longest first.
NEW = (
    (re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"\bh[0-9a-f]{64}\b"), "<lease>"),
    (re.compile(r"(?<![A-Za-z0-9])(?:hvs\.|s\.)?[A-Za-z0-9]{24,26}(?![A-Za-z0-9])"), "<id>"),
    (re.compile(r"\b(?:entity|group)_[0-9a-f]{8}\b"), "<named>"),
    (re.compile(r"\b([a-z_]+)_[0-9a-f]{8}\b"), r"<\1 accessor>"),
    (re.compile(r"http://127\.0\.0\.1:\d+"), "<address>"),
)
PLACES = ("", "t1", "t1/kid", "t2")
"""Paths of the namespaces of a prepared side; "" is the root namespace."""


ENVELOPE = {"data", "auth", "wrap_info", "warnings", "lease_id", "lease_duration", "renewable"}
# What only we tell, or what is never the same.
OURS = {"request_id", "protection", "state", "state_since", "running_plugin_version"}


class Side:
    """One server."""

    def __init__(self, address: str, root: str) -> None:
        self.root = root
        self.ids: dict[str, str] = {}  # ID of a namespace -> what stands for it
        self._client = httpx.Client(base_url=f"{address}/v1/", timeout=30, trust_env=False)

    def call(
        self, verb: str, path: str, body: object = None, *, token: str | None = None, ns: str | None = None
    ) -> tuple[int, Any]:
        """(status, decoded body); root's token unless another is given, "" for none."""
        token = self.root if token is None else token
        headers = {"X-Vault-Request": "true"}
        headers |= {"X-Vault-Token": token} if token else {}
        headers |= {"X-Vault-Namespace": ns} if ns is not None else {}
        if verb == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        content = None if body is None else json.dumps(body).encode()
        answer = self._client.request(verb, path, content=content, headers=headers)
        return answer.status_code, answer.json() if answer.content.strip() else None

    def ok(
        self, verb: str, path: str, body: object = None, *, token: str | None = None, ns: str | None = None
    ) -> dict[str, Any]:
        """A call that must succeed; its data, else its auth, else its wrap_info."""
        status, answer = self.call(verb, path, body, token=token, ns=ns)
        assert status in {200, 202, 204}, f"{verb} {path} in {ns}: {status} {answer}"
        held = answer or {}
        found: dict[str, Any] = next(
            (held[name] for name in ("data", "auth", "wrap_info") if held.get(name)), {}
        )
        return found

    def born(self, path: str) -> None:
        """A new namespace."""
        above, _, name = path.rpartition("/")
        made = self.ok("POST", f"sys/namespaces/{name}", {}, ns=above)
        self.ids[made["id"]] = f"<{path}>"

    def token(self, ns: str, *policies: str, **more: object) -> dict[str, Any]:
        """A token of a namespace that root made: its auth object."""
        return self.ok("POST", "auth/token/create", {"policies": list(policies), **more}, ns=ns)

    def wrapped(self, path: str, body: object, *, ns: str) -> dict[str, Any]:
        """The wrap_info of an answer."""
        headers = {"X-Vault-Token": self.root, "X-Vault-Namespace": ns, "X-Vault-Wrap-TTL": "5m"}
        answer = self._client.request("POST", path, content=json.dumps(body).encode(), headers=headers)
        info: dict[str, Any] = answer.json()["wrap_info"]
        return info

    def claims(self, token: str) -> Any:
        """What an identity token says, without what is new each time."""
        return self.form(jwt.decode(token, options={"verify_signature": False}))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def form(self, value: Any, name: str = "") -> Any:
        """An answer without what is new each time."""
        if isinstance(value, dict):
            # Both fill the envelope with empty members, which say nothing.
            return {
                self.form(key): self.form(inner, key)
                for key, inner in value.items()
                if key not in OURS and inner not in (None, "", 0, False, {}, [])
            }
        if isinstance(value, list):
            inner = [self.form(each, name) for each in value]
            return sorted(inner, key=_sorting) if name in {"keys", "by_namespace", "policies"} else inner
        if isinstance(value, str):
            return "<time>" if TIME.match(value) else self._known(value)
        return (
            type(value).__name__
            if isinstance(value, int | float) and name not in {"counts", "total"}
            else value
        )

    def _known(self, text: str) -> str:
        for pattern, told in NEW:
            text = pattern.sub(told, text)
        for namespace_id, told in self.ids.items():
            text = text.replace(namespace_id, told)
        return text


def _sorting(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


EVERYTHING = 'path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"] }'
OWN = "\n".join(
    f'path "{path}" {{ capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"] }}'
    for path in ("auth/*", "sys/*", "identity/*", "transit/*")
)


def prepare(side: Side) -> None:
    """Three namespaces, each with users, a transit engine with a key, and policies for it alone and for all below."""
    for path in PLACES[1:]:
        side.born(path)
    for ns in PLACES:
        side.ok("PUT", "sys/policies/acl/all", {"policy": EVERYTHING}, ns=ns)
        side.ok("PUT", "sys/policies/acl/own", {"policy": OWN}, ns=ns)
        side.ok("POST", "sys/mounts/transit", {"type": "transit"}, ns=ns)
        side.ok("POST", "transit/keys/k", {}, ns=ns)
        side.ok("POST", "sys/auth/up", {"type": "userpass"}, ns=ns)
        side.ok("POST", "auth/up/users/ann", {"password": "pw-of-ann", "token_policies": "own"}, ns=ns)


@contextmanager
def theirs() -> Iterator[Side]:
    """The real server."""
    with running() as peer:
        side = Side(peer.address, "root")
        try:
            yield side
        finally:
            side.close()


@contextmanager
def ours(folder: Path) -> Iterator[Side]:
    """This one."""
    server = DevServer(folder, workers=1)
    server.start()
    side = Side(server.address, server.token)
    try:
        yield side
    finally:
        side.close()
        server.stop()
