"""Calls inside a namespace, named by the header or by the path."""

from __future__ import annotations

import secrets
from typing import Any

from tests.harness.api import Answer, Api
from tests.harness.processes import wait_for

ALL = 'path "*" { capabilities = ["create", "read", "update", "delete", "list", "patch", "sudo"] }'


class Tenant:
    """One namespace, as root or as a token of it."""

    def __init__(self, api: Api, path: str, token: str = "") -> None:
        self.api = api
        self.path = path
        self.shown = token or api.token

    @property
    def token_text(self) -> str:
        """The token that it calls with."""
        return self.shown

    def call(self, verb: str, path: str, body: object = None, *, token: str | None = None) -> Answer:
        """By the header. `token` "" sends none."""
        sent = self.shown if token is None else token
        headers = {"X-Vault-Namespace": self.path, "X-Vault-Token": sent}
        if verb == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        return self.api.call(verb, path, body, headers=headers)

    def by_path(self, verb: str, path: str, body: object = None) -> Answer:
        """By the path."""
        return self.api.call(verb, f"{self.path}/{path}", body, headers={"X-Vault-Token": self.shown})

    def ok(self, verb: str, path: str, body: object = None) -> dict[str, Any]:
        """Must succeed; its data."""
        answer = self.call(verb, path, body)
        assert answer.status in {200, 204}, f"{verb} {path}: {answer.status} {answer.content[:300]!r}"
        return answer.json.get("data") or {} if answer.status == 200 else {}

    def call_wrapped(self, verb: str, path: str, body: object = None) -> dict[str, Any]:
        """Its answer is wrapped; the wrap_info."""
        headers = {"X-Vault-Namespace": self.path, "X-Vault-Token": self.shown, "X-Vault-Wrap-TTL": "5m"}
        info: dict[str, Any] = self.api.call(verb, path, body, headers=headers).json["wrap_info"]
        return info

    def token(self, policy: str = ALL, **more: object) -> tuple[str, str]:
        """A token of the namespace with one policy, and its accessor."""
        name = f"p-{secrets.token_hex(4)}"
        self.ok("POST", f"sys/policies/acl/{name}", {"policy": policy})
        auth = self.call("POST", "auth/token/create", {"policies": [name], **more}).json["auth"]
        return auth["client_token"], auth["accessor"]

    def as_token(self, policy: str = ALL) -> Tenant:
        """The same namespace with a token of its own."""
        return Tenant(self.api, self.path, self.token(policy)[0])

    def below(self, name: str) -> Tenant:
        """A new namespace in this one."""
        self.ok("POST", f"sys/namespaces/{name}", {})
        return Tenant(self.api, f"{self.path}/{name}")

    def mount(self, path: str, engine: str = "transit") -> None:
        """An engine."""
        self.ok("POST", f"sys/mounts/{path}", {"type": engine})


def tenant(api: Api) -> Tenant:
    """A new namespace."""
    made = Tenant(api, f"t-{secrets.token_hex(4)}")
    api.ok("POST", f"sys/namespaces/{made.path}", {})
    return made


def clear(api: Api, path: str) -> None:
    """Delete a namespace and those below it, and wait until they are gone."""
    here = Tenant(api, path)
    listed = here.call("LIST", "sys/namespaces")
    for name in listed.data["keys"] if listed.status == 200 else ():
        clear(api, f"{path}/{name.strip('/')}")
    above, _, name = path.rpartition("/")
    outside = Tenant(api, above or "root")
    assert outside.call("DELETE", f"sys/namespaces/{name}").status == 200
    wait_for(lambda: outside.call("GET", f"sys/namespaces/{name}").status == 404, 60, f"the end of {path}")
