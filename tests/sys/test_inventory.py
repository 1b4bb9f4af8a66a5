"""Over all routes at once: nobody gets past the door without a right to (T-24), and ids of others say nothing (T-47)."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import log
from tests.harness.dev import DevServer
from tests.sys.fuzz import described
from tests.sys.inventory import WRITES, Spot, spots
from tests.sys.sides import Side

# Any token may call these, and is shown only what its policies reach.
ANY_TOKEN = frozenset({"sys.internal.namespaces"})
# Refusals of callers that are not known are written in full only so often; the rest are counted.
FEW = 20


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, DevServer]]:
    server = DevServer(tmp_path_factory.mktemp("inventory"), workers=2)
    server.start()
    made = Side(server.address, server.token)
    yield made, server
    made.close()
    server.stop()


def ask(side: Side, spot: Spot, token: str) -> tuple[int, Any]:
    body: dict[str, Any] | None = {} if spot.verb in WRITES else None
    kind = {"Content_Type": "application/merge-patch+json"} if spot.verb == "PATCH" else {}
    return side.ask(spot.verb, spot.path(), body, token=token, **kind)


def test_no_route_without_a_right_to_it_and_each_try_on_record(side: tuple[Side, DevServer]) -> None:
    """Each route that wants a token: without one, with a wrong one, with one that may nothing."""
    asked, server = side
    everything = spots(described(asked))
    closed = [spot for spot in everything if not spot.open]
    powerless = asked.token('path "nothing/at/all" { capabilities = ["read"] }', "powerless")
    wrong: list[str] = []
    for spot in closed:
        for token in ("", "hvs." + secrets.token_hex(12)):
            status, body = ask(asked, spot, token)
            if status not in (400, 403) or "data" in (body or {}):
                wrong.append(f"{spot.verb} {spot.template} {status} {body}")
        status, body = ask(asked, spot, powerless)
        expected = (200, 204) if spot.operation in ANY_TOKEN else (400, 403)
        if status not in expected:
            wrong.append(f"{spot.verb} {spot.template} powerless: {status} {body}")
    assert len(closed) > 350
    assert not wrong, "\n".join(wrong[:20])
    entries = log.entries(server.audit)
    denied = {entry.operation for entry in entries if entry.phase == "denied"}
    refused = [entry for entry in entries if entry.phase in ("refused", "counted")]
    # What stopped before the decision (an argument that cannot be) is not a denial.
    missing = {spot.operation for spot in closed} - denied - ANY_TOKEN
    asked_again = {
        spot.operation
        for spot in closed
        if spot.operation in missing and ask(asked, spot, powerless)[0] != 400
    }
    assert not asked_again
    assert 0 < len([entry for entry in refused if entry.phase == "refused"]) <= 2 * FEW * 3


def test_open_routes_are_those_that_are_known(side: tuple[Side, DevServer]) -> None:
    """A route that answers without a token is a decision, and stands here."""
    asked, _ = side
    opened = {spot.operation for spot in spots(described(asked)) if spot.open}
    expected = (
        r"sys\.(health|seal_status|leader|init|init_status|unseal|metrics|internal\.(mounts|mount|openapi.*))\Z",
        r"sys\.(generate_root|generate_root_token|rekey|rekey_recovery|decode_token)\b",
        r"(pki|acme|est|ssh)\.",
        r".*\blogin\b",
        r"(jwt|identity)\.oidc\.",
        r"(sys\.)?(wrapping|mfa)\.",
    )
    unknown = {name for name in opened if not any(re.match(pattern, name) for pattern in expected)}
    assert not unknown


Ids = dict[str, str]


def belongings(side: Side, mount: str) -> Ids:
    """Something of every kind in the mounts of one tenant; name -> id."""
    for kind in ("transit", "pki", "ssh"):
        side.data("POST", f"sys/mounts/{mount}-{kind}", {"type": kind})
    for kind in ("approle", "userpass"):
        side.data("POST", f"sys/auth/{mount}-{kind}", {"type": kind})
    side.data("POST", f"{mount}-transit/keys/own-{mount}", {})
    side.data("POST", f"{mount}-transit/aliases/alias-{mount}", {"key": f"own-{mount}"})
    root = side.data(
        "POST", f"{mount}-pki/root/generate/internal", {"common_name": "r.test", "key_type": "ec"}
    )
    role = {"allow_any_name": True, "key_type": "ec"}
    side.data("POST", f"{mount}-pki/roles/role-{mount}", role)
    leaf = side.data("POST", f"{mount}-pki/issue/role-{mount}", {"common_name": "leaf.test"})
    side.data("POST", f"{mount}-ssh/config/ca", {"generate_signing_key": True, "key_type": "ed25519"})
    side.data(
        "POST", f"{mount}-ssh/roles/sshrole-{mount}", {"key_type": "ca", "allow_user_certificates": True}
    )
    side.data("POST", f"auth/{mount}-approle/role/app-{mount}", {"policies": "default"})
    secret = side.data("POST", f"auth/{mount}-approle/role/app-{mount}/secret-id", {})
    side.data("POST", f"auth/{mount}-userpass/users/user-{mount}", {"password": "correct horse 5"})
    return {
        "key": f"own-{mount}",
        "alias": f"alias-{mount}",
        "issuer": root["issuer_id"],
        "ca_key": root["key_id"],
        "role": f"role-{mount}",
        "serial": leaf["serial_number"],
        "ssh_role": f"sshrole-{mount}",
        "approle": f"app-{mount}",
        "secret_id": secret["secret_id"],
        "accessor": secret["secret_id_accessor"],
        "user": f"user-{mount}",
    }


def unknown_like(value: str) -> str:
    """Of the same form, and nobody's."""
    if re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2})+", value):
        return ":".join(["5a", *(secrets.token_hex(1) for _ in value.split(":")[1:])])
    if re.fullmatch(r"[0-9a-f-]{36}", value):
        made = secrets.token_hex(16)
        return f"{made[:8]}-{made[8:12]}-4{made[13:16]}-a{made[17:20]}-{made[20:]}"
    return value[: -len(value) // 2] + secrets.token_hex(8)


def told(side: Side, spot: Spot, value: str) -> tuple[int, str]:
    """The answer, without what the caller said and what differs in any two answers."""
    body = dict.fromkeys(("secret_id", "secret_id_accessor", "serial_number"), value)
    status, answer = side.ask(spot.verb, spot.path(value), body if spot.verb == "POST" else None)
    text = json.dumps(answer, sort_keys=True) if not isinstance(answer, str) else answer
    for spelled in (value, value.replace(":", "-"), value.replace(":", "")):
        text = text.replace(spelled, "ID")
    return status, re.sub(r'"request_id": "[^"]*"', "", text)


def test_an_id_of_another_tenant_is_like_an_unknown_one(side: tuple[Side, DevServer], tmp_path: Path) -> None:
    """T-47: each id-taking route of one tenant's mounts, with every id of another tenant, and with made-up ones."""
    del tmp_path
    asked, _ = side
    owner, other = f"a{secrets.token_hex(3)}", f"b{secrets.token_hex(3)}"
    held = belongings(asked, owner)
    belongings(asked, other)
    everything = spots(described(asked))
    lookups = ("lookup", "destroy", "revoke")
    tried, different = 0, []
    for spot in everything:
        theirs = spot.template.startswith((f"/{other}-", f"/auth/{other}-"))
        asks = spot.verb in ("GET", "LIST", "DELETE") or spot.template.endswith(lookups)
        # What a delete of the mount's own issuers would do is not the question.
        if not theirs or not asks or (not spot.slots and spot.verb != "POST"):
            continue
        for name, value in held.items():
            tried += 1
            foreign, unknown = told(asked, spot, value), told(asked, spot, unknown_like(value))
            if foreign != unknown:
                different.append(f"{spot.verb} {spot.template} with {name}: {foreign} != {unknown}")
    assert not different, "\n".join(different[:10])
    assert tried > 500
    # And nothing of the owner's was touched.
    assert asked.data("GET", f"{owner}-transit/keys/{held['key']}")["name"] == held["key"]
    assert asked.data("GET", f"{owner}-pki/issuer/{held['issuer']}")["issuer_id"] == held["issuer"]
    assert asked.data("GET", f"{owner}-pki/cert/{held['serial']}")["revocation_time"] == 0
    found = asked.data(
        "POST",
        f"auth/{owner}-approle/role/{held['approle']}/secret-id/lookup",
        {"secret_id": held["secret_id"]},
    )
    assert found["secret_id_accessor"] == held["accessor"]
    assert asked.data("GET", f"auth/{owner}-userpass/users/{held['user']}")
