"""Namespaces on a real server with four workers: one name for one thing, and nothing of a neighbour."""

from __future__ import annotations

import base64
import json
import secrets

import httpx
import hvac
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

from tests.harness.api import Api
from tests.harness.bao import Bao
from tests.harness.dev import DevServer
from tests.harness.log import entries
from tests.harness.processes import wait_for
from tests.namespaces.tenants import ALL, Tenant, clear, tenant

ENCRYPT = {"plaintext": "c2VjcmV0"}


@pytest.fixture
def red(api: Api) -> Tenant:
    return tenant(api)


@pytest.fixture
def blue(api: Api) -> Tenant:
    return tenant(api)


def test_header_and_path_name_the_same_thing(api: Api, red: Tenant) -> None:
    kid = red.below("kid")
    kid.mount("keys")
    kid.ok("POST", "keys/keys/app", {})
    sealed = kid.call("POST", "keys/encrypt/app", ENCRYPT).data["ciphertext"]
    body = {"ciphertext": sealed}
    assert kid.by_path("POST", "keys/decrypt/app", body).data == ENCRYPT
    # The header names one part of the way and the path the rest.
    assert red.call("POST", "kid/keys/decrypt/app", body).data == ENCRYPT
    for spelling in (f"/{kid.path}", f"{kid.path}/", f"/{kid.path}/"):
        headers = {"X-Vault-Namespace": spelling}
        assert api.call("POST", "keys/decrypt/app", body, headers=headers).data == ENCRYPT
    # Who names it twice asks for something else.
    answer = kid.by_path("GET", f"{kid.path}/keys/keys/app")
    assert answer.errors == [f'no handler for route "{kid.path}/keys/keys/app". route entry not found.']
    assert api.get("keys/keys/app").status == 404


@pytest.mark.parametrize("header", ["nope", "root/x", "ROOT", "no//pe"])
def test_an_unknown_namespace_is_not_found_before_anybody_is_asked(
    api: Api, header: str, red: Tenant
) -> None:
    for token in (api.token, ""):
        answer = Tenant(api, header).call("GET", "sys/mounts", token=token)
        assert (answer.status, answer.errors) == (404, ["namespace not found"])
    for named in ("", "/", "root", "root/"):
        assert "sys/" in Tenant(api, named).ok("GET", "sys/mounts")
    twice = [("X-Vault-Namespace", red.path), ("X-Vault-Namespace", "root"), ("X-Vault-Token", api.token)]
    assert httpx.get(f"{api.address}/v1/sys/mounts", headers=twice, trust_env=False).status_code == 400


def test_what_is_mounted_and_written_is_the_namespace_s_own(api: Api, red: Tenant, blue: Tenant) -> None:
    red.mount("keys")
    blue.mount("keys")
    red.ok("POST", "keys/keys/app", {})
    assert blue.call("GET", "keys/keys/app").status == 404
    assert set(red.ok("GET", "sys/mounts")) == {"sys/", "identity/", "cubbyhole/", "keys/"}
    assert set(red.ok("GET", "sys/auth")) == {"token/"}
    assert not {path for path in api.ok("GET", "sys/mounts") if path.startswith(red.path)}
    red.ok("POST", "sys/policies/acl/app", {"policy": ALL})
    assert red.ok("LIST", "sys/policies/acl")["keys"] == ["app", "default"]
    assert blue.ok("LIST", "sys/policies/acl")["keys"] == ["default"]
    assert blue.call("GET", "sys/policies/acl/app").status == 404
    assert "app" not in api.ok("LIST", "sys/policies/acl")["keys"]
    red.ok("POST", "auth/token/roles/ci", {"allowed_policies": "app"})
    assert blue.call("POST", "auth/token/create/ci", {}).errors == ["unknown role ci"]
    assert api.get("auth/token/roles/ci").status == 404
    text = 'length = 12\nrule "charset" { charset = "abc" }'
    red.ok("POST", "sys/policies/password/short", {"policy": text})
    assert len(str(red.ok("GET", "sys/policies/password/short/generate")["password"])) == 12
    for other in (blue, Tenant(api, "root")):
        assert other.call("GET", "sys/policies/password/short").status == 404


def test_a_policy_of_a_namespace_never_reaches_out_of_it(api: Api, red: Tenant, blue: Tenant) -> None:
    kid = red.below("kid")
    for place in (red, blue, kid):
        place.mount("keys")
        place.ok("POST", "keys/keys/app", {})
    name = f"root-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/mounts/{name}", {"type": "transit"})
    mine = red.as_token(ALL)
    assert mine.call("GET", "keys/keys/app").status == 200
    assert Tenant(api, kid.path, mine.shown).call("GET", "keys/keys/app").status == 200
    for other in (blue.path, "root"):
        outside = Tenant(api, other, mine.shown)
        for verb, path in (
            ("GET", "keys/keys/app"),
            ("GET", "sys/mounts"),
            ("GET", f"{name}/keys/app"),
            ("GET", "sys/internal/ui/resultant-acl"),
            ("GET", "sys/internal/ui/namespaces"),
            ("POST", "auth/token/create"),
        ):
            answer = outside.call(verb, path, {} if verb == "POST" else None)
            assert (answer.status, answer.errors) == (403, ["1 error occurred:\n\t* permission denied\n\n"])
    for text in ('path "../*"', f'path "/{blue.path}/*"', f'path "{blue.path}/*"', 'path "+/keys/*"'):
        tried = red.as_token(f'{text} {{ capabilities = ["read"] }}')
        assert Tenant(api, blue.path, tried.shown).call("GET", "keys/keys/app").status == 403
    api.ok("DELETE", f"sys/mounts/{name}")


def test_a_parent_s_policy_names_what_lies_below(api: Api, red: Tenant, blue: Tenant) -> None:
    for place in (red, blue):
        place.mount("keys")
        place.ok("POST", "keys/keys/app", {})
        place.ok("POST", "keys/keys/other", {})
    name = f"p-{secrets.token_hex(4)}"
    text = f'path "{red.path}/keys/keys/+" {{ capabilities = ["read"] }} path "{red.path}/keys/keys/other" '
    api.ok("POST", f"sys/policies/acl/{name}", {"policy": text + '{ capabilities = ["deny"] }'})
    token = api.post("auth/token/create", {"policies": [name]}).json["auth"]["client_token"]
    assert Tenant(api, red.path, token).call("GET", "keys/keys/app").status == 200
    assert Tenant(api, red.path, token).by_path("GET", "keys/keys/app").status == 200
    assert Tenant(api, red.path, token).call("GET", "keys/keys/other").status == 403
    assert Tenant(api, blue.path, token).call("GET", "keys/keys/app").status == 403
    paths = {"token": token, "paths": ["keys/keys/app", "keys/keys/other"]}
    assert red.ok("POST", "sys/capabilities", {**paths, "token": red.token()[0]})["keys/keys/app"] != ["deny"]
    asked = api.ok("POST", "sys/capabilities", {"token": token, "paths": [f"{red.path}/keys/keys/app"]})
    assert asked[f"{red.path}/keys/keys/app"] == ["read"]


def test_tokens_carry_their_namespace(api: Api, red: Tenant, blue: Tenant) -> None:
    namespace_id = str(api.ok("GET", f"sys/namespaces/{red.path}")["id"])
    token, accessor = red.token()
    assert (token.rpartition(".")[2], accessor.rpartition(".")[2]) == (namespace_id, namespace_id)
    own = red.call("GET", "auth/token/lookup-self", token=token).data
    assert (own["namespace_path"], own["path"]) == (f"{red.path}/", "auth/token/create")
    assert "namespace_path" not in api.ok("GET", "auth/token/lookup-self")
    # What a token does to itself alone it may do wherever it is, as on the peer.
    assert blue.call("GET", "auth/token/lookup-self", token=token).data["accessor"] == accessor
    for altered in (token.rpartition(".")[0], f"{token.rpartition('.')[0]}.aaaaaa"):
        assert red.call("GET", "auth/token/lookup-self", token=altered).errors == ["permission denied"]
    batch = red.token(type="batch", ttl="1h")[0]
    assert red.call("GET", "auth/token/lookup-self", token=batch).data["namespace_path"] == f"{red.path}/"
    for altered in (
        batch.rpartition(".")[0],
        f"{batch.rpartition('.')[0]}.aaaaaa",
        f"{batch}.{namespace_id}",
    ):
        assert red.call("GET", "auth/token/lookup-self", token=altered).errors == ["permission denied"]
    refusals = {
        "root tokens may not be created from a parent namespace": {"policies": ["root"]},
        "token IDs can only be manually specified in the root namespace": {"id": "mine"},
    }
    for text, body in refusals.items():
        assert red.call("POST", "auth/token/create", body).errors == [text]


def test_a_child_in_a_namespace_below_gets_no_policy_by_its_name(api: Api, red: Tenant) -> None:
    kid = red.below("kid")
    create = 'path "kid/auth/token/create" { capabilities = ["update"] }'
    red.ok("POST", "sys/policies/acl/same", {"policy": create})
    kid.ok("POST", "sys/policies/acl/same", {"policy": ALL})
    parent = red.call("POST", "auth/token/create", {"policies": ["same"]}).json["auth"]["client_token"]
    inside = Tenant(api, kid.path, parent)
    assert inside.call("POST", "auth/token/create", {"policies": ["same"]}).errors == [
        "child policies must be subset of parent"
    ]
    made = inside.call("POST", "auth/token/create", {}).json["auth"]
    assert (made["policies"], made["orphan"]) == (["default"], False)
    red.ok("POST", "auth/token/revoke", {"token": parent})
    assert kid.call("GET", "auth/token/lookup-self", token=made["client_token"]).status == 403


@pytest.mark.parametrize("where", ["sibling", "child", "parent"])
def test_an_id_of_another_namespace_is_as_good_as_none(red: Tenant, blue: Tenant, where: str) -> None:
    """T-47: what the answer is must not depend on whether the thing exists elsewhere."""
    kid = red.below("kid")
    owner, asker = {"sibling": (blue, red), "child": (red, kid), "parent": (kid, red)}[where]
    token, accessor = owner.token()
    asked: list[tuple[str, str, str]] = [
        (f"auth/token/{verb}-accessor", "accessor", accessor) for verb in ("lookup", "renew", "revoke")
    ] + [("sys/capabilities-accessor", "accessor", accessor)]
    if where != "parent":  # a token itself is known to the namespaces above its own
        asked += [
            (f"auth/token/{verb}", "token", token) for verb in ("lookup", "renew", "revoke-orphan", "revoke")
        ]
        asked += [("sys/capabilities", "token", token)]
    unknown = {
        "accessor": f"{secrets.token_hex(12)}.{accessor[-6:]}",
        "token": f"hvs.{secrets.token_hex(12)}",
    }
    for path, name, value in asked:
        body = {"paths": ["sys/mounts"]} if "capabilities" in path else {}
        there, nowhere = (asker.call("POST", path, {**body, name: given}) for given in (value, unknown[name]))
        assert there.status == nowhere.status, path
        assert {**there.json, "request_id": ""} == {**nowhere.json, "request_id": ""}, path
    assert accessor not in asker.call("LIST", "auth/token/accessors").json.get("data", {}).get("keys", ())
    assert owner.call("GET", "auth/token/lookup-self", token=token).status == 200


def test_an_answer_wrapped_in_one_namespace_is_opened_from_anywhere_once(red: Tenant, blue: Tenant) -> None:
    headers = {"X-Vault-Namespace": red.path, "X-Vault-Wrap-TTL": "60"}
    wrapped = red.api.call("GET", "sys/policies/acl/default", headers=headers).json["wrap_info"]
    assert wrapped["creation_path"] == "sys/policies/acl/default"
    assert blue.call("POST", "sys/wrapping/lookup", {"token": wrapped["token"]}).status == 200
    assert blue.call("POST", "sys/wrapping/unwrap", {}, token=wrapped["token"]).data["name"] == "default"
    assert red.call("POST", "sys/wrapping/unwrap", {}, token=wrapped["token"]).status == 400


def test_a_cubbyhole_is_one_per_token_and_namespace(red: Tenant) -> None:
    kid = red.below("kid")
    mine = red.token()[0]
    for place, value in ((red, "above"), (kid, "below")):
        assert place.call("POST", "cubbyhole/a", {"x": value}, token=mine).status == 204
    assert red.call("GET", "cubbyhole/a", token=mine).data == {"x": "above"}
    assert kid.call("GET", "cubbyhole/a", token=mine).data == {"x": "below"}
    assert red.call("LIST", "cubbyhole/", token=mine).data == {"keys": ["a"]}
    assert red.call("GET", "cubbyhole/a").status == 404


def test_mounts_and_namespaces_share_no_path(api: Api, red: Tenant) -> None:
    red.below("kid")
    red.mount("taken")
    assert red.call("POST", "sys/namespaces/taken", {}).errors == [
        "new namespace conflicts with existing mount: taken/"
    ]
    for path in ("kid", "kid/keys", "kid/sys/x"):
        assert red.call("POST", f"sys/mounts/{path}", {"type": "transit"}).status == 400
        assert red.call("POST", "sys/remount", {"from": "taken", "to": path}).status == 400
    # A path that is another namespace's is not this one's to look at or to remove.
    Tenant(api, f"{red.path}/kid").mount("keys")
    assert red.call("GET", "sys/mounts/kid/keys").status == 400
    assert red.call("DELETE", "sys/mounts/kid/keys").status == 204
    assert red.call("GET", "sys/internal/ui/mounts/kid/keys").status == 403
    assert "keys/" in Tenant(api, f"{red.path}/kid").ok("GET", "sys/mounts")


def test_what_is_of_the_whole_server_is_not_for_tenants(red: Tenant) -> None:
    for verb, path in (
        ("GET", "sys/health"),
        ("GET", "sys/audit"),
        ("POST", "sys/seal"),
        ("GET", "sys/hsm/root/rotate"),
        ("POST", "sys/generate-root/attempt"),
        ("GET", "sys/loggers"),
        ("GET", "sys/config/cors"),
        ("GET", "sys/host-info"),
    ):
        for answer in (red.call(verb, path, {} if verb == "POST" else None), red.by_path(verb, path)):
            assert (answer.status, answer.errors) == (400, ["operation unavailable in namespaces"]), path
    assert red.call("GET", "sys/seal-status", token="").json["sealed"] is False


def test_a_mount_finds_others_of_its_namespace_only(api: Api, red: Tenant) -> None:
    other = f"keys-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/mounts/{other}", {"type": "transit"})
    api.ok("POST", f"{other}/keys/new", {})
    kid = red.below("kid")
    for place in (red, kid):
        place.mount("keys")
        place.ok("POST", "keys/keys/app", {})
    red.mount("archive")
    red.ok("POST", "archive/keys/new", {})
    sealed = red.call("POST", "keys/encrypt/app", ENCRYPT).data["ciphertext"]
    body = {"ciphertext": sealed, "destination": "new", "destination_mount": "archive"}
    moved = red.call("POST", "keys/reencrypt/app", body).data["ciphertext"]
    assert red.call("POST", "archive/decrypt/new", {"ciphertext": moved}).data == ENCRYPT
    for elsewhere in (other, "kid/keys", f"{red.path}/archive"):
        answer = red.call("POST", "keys/reencrypt/app", {**body, "destination_mount": elsewhere})
        assert answer.errors == [f"destination_mount '{elsewhere}' is not a transit mount"]
    api.ok("DELETE", f"sys/mounts/{other}")


def test_certificates_of_a_namespace(api: Api, red: Tenant) -> None:
    red.mount("pki", "pki")
    root = red.ok("POST", "pki/root/generate/internal", {"common_name": "red root", "key_type": "ec"})
    red.ok("POST", "pki/roles/web", {"allow_any_name": True, "max_ttl": "1h"})
    made = red.ok("POST", "pki/issue/web", {"common_name": "red.example.com"})
    issuer, leaf = (
        x509.load_pem_x509_certificate(made[name].encode()) for name in ("issuing_ca", "certificate")
    )
    leaf.verify_directly_issued_by(issuer)
    assert root["certificate"] == made["issuing_ca"]
    asked = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA256()).build()
    der = asked.public_bytes(serialization.Encoding.DER)
    one = base64.b64encode(der).decode()
    for path in (f"{red.path}/pki/ocsp/{one}", f"{red.path}/pki/crl"):
        assert httpx.get(f"{api.address}/v1/{path}", trust_env=False).status_code == 200
    answer = httpx.get(
        f"{api.address}/v1/pki/ocsp/{one}", headers={"X-Vault-Namespace": red.path}, trust_env=False
    )
    told = ocsp.load_der_ocsp_response(answer.content)
    assert told.certificate_status is ocsp.OCSPCertStatus.GOOD
    # /.well-known/est/ is one place of the whole server.
    body = {"enabled": True, "default_mount": True, "default_path_policy": "role:web"}
    assert red.call("POST", "pki/config/est", body).status == 400
    body = {"enabled": True, "label_to_path_policy": {"devices": "role:web"}}
    assert red.call("POST", "pki/config/est", body).status == 200
    assert httpx.get(f"{api.address}/.well-known/est/devices/cacerts", trust_env=False).status_code == 404
    assert (
        httpx.get(f"{api.address}/v1/{red.path}/pki/est/devices/cacerts", trust_env=False).status_code == 200
    )


def test_records_name_the_namespace(server: DevServer, red: Tenant) -> None:
    namespace_id = str(red.api.ok("GET", f"sys/namespaces/{red.path}")["id"])
    red.ok("POST", "sys/policies/acl/app", {"policy": ALL})
    resource = f"{red.path}/sys/policies/acl/app"

    def named() -> set[str]:
        return {one.event.get("namespace", "") for one in entries(server.audit) if one.resource == resource}

    wait_for(lambda: bool(named()), 30, "the record")
    assert named() == {namespace_id}


def test_a_locked_namespace_answers_nobody(api: Api, red: Tenant) -> None:
    kid = red.below("kid")
    mine = red.as_token(ALL)
    key = mine.ok("POST", "sys/namespaces/api-lock/lock", {})["unlock_key"]
    text = (
        f'API access to this namespace has been locked by an administrator - "{red.path}/" must be unlocked'
    )
    for place in (red, mine, kid):
        answer = place.call("GET", "sys/mounts")
        assert (answer.status, answer.errors) == (503, [f"{text} to gain access."])
    # Not even from outside may a token of it look at itself.
    assert Tenant(api, "root", mine.shown).call("GET", "auth/token/lookup-self").status == 503
    assert api.ok("GET", f"sys/namespaces/{red.path}")["locked"] is True
    bare = _token(api, 'path "sys/namespaces/*" { capabilities = ["update"] }')
    unlock = f"sys/namespaces/api-lock/unlock/{red.path}"
    with api.as_token(bare) as other:
        assert other.post(unlock, {}).errors == ["an unlock key is needed, or sudo on this path"]
        assert other.post(unlock, {"unlock_key": "x"}).errors == ["incorrect unlock key"]
        assert other.post(unlock, {"unlock_key": key}).status == 204
    assert mine.call("GET", "sys/mounts").status == 200
    assert api.post(unlock, {}).errors == [f'namespace "{red.path}/" is not locked']


def test_what_was_deleted_is_gone_and_does_not_come_back(api: Api) -> None:
    red = tenant(api)
    red.mount("keys")
    red.ok("POST", "keys/keys/app", {})
    red.ok("POST", "sys/auth/people", {"type": "userpass"})
    red.ok("POST", "auth/people/users/ann", {"password": "correct horse", "token_policies": "mine"})
    token, accessor = red.token()
    login = red.call("POST", "auth/people/login/ann", {"password": "correct horse"}, token="").json["auth"]
    batch = red.token(type="batch", ttl="1h")[0]
    red.below("kid")
    refusal = ["unable to delete namespace containing child namespaces"]
    assert api.delete(f"sys/namespaces/{red.path}").errors == refusal
    before = str(api.ok("GET", f"sys/namespaces/{red.path}")["id"])
    clear(api, f"{red.path}/kid")
    answer = api.delete(f"sys/namespaces/{red.path}")
    assert answer.data == {"status": "in-progress"}
    for dead in (token, login["client_token"], batch):
        for place in (red, Tenant(api, "root")):
            assert place.call("GET", "auth/token/lookup-self", token=dead).status in {403, 404}
    clear(api, red.path)
    assert red.call("GET", "sys/mounts").errors == ["namespace not found"]
    api.ok("POST", f"sys/namespaces/{red.path}", {})
    assert api.ok("GET", f"sys/namespaces/{red.path}")["id"] != before
    assert set(red.ok("GET", "sys/mounts")) == {"sys/", "identity/", "cubbyhole/"}
    assert red.ok("LIST", "sys/policies/acl")["keys"] == ["default"]
    for dead in (token, login["client_token"], batch):
        assert red.call("GET", "auth/token/lookup-self", token=dead).errors == ["permission denied"]
    assert red.call("POST", "auth/token/lookup-accessor", {"accessor": accessor}).status == 400


def test_real_clients(api: Api, bao: Bao, red: Tenant) -> None:
    client = hvac.Client(url=api.address, token=api.token, namespace=red.path)
    try:
        client.sys.enable_secrets_engine("transit", path="hvac")
        client.secrets.transit.create_key("app", mount_point="hvac")
        client.sys.create_or_update_policy("own", ALL)
        made = client.auth.token.create(policies=["own"])["auth"]["client_token"]
        assert hvac.Client(url=api.address, token=made, namespace=red.path).is_authenticated()
    finally:
        client.adapter.close()
    place = f"-namespace={red.path}"
    bao("namespace", "create", place, "kid")
    assert json.loads(bao("namespace", "list", "-format=json", place)) == ["kid/"]
    bao("namespace", "create", f"-namespace={red.path}/kid", "baby")
    assert set(json.loads(bao("namespace", "scan", "-format=json", place))) == {"kid/", "kid/baby/"}
    some = red.as_token('path "sys/namespaces" { capabilities = ["list"] }')
    assert some.call("GET", "sys/namespaces?scan=true").data["keys"] == ["kid/"]
    assert some.call("GET", "sys/namespaces").status == 405
    assert json.loads(bao("secrets", "list", "-format=json", place))["hvac/"]["type"] == "transit"
    bao("write", place, "-f", "hvac/keys/second")
    assert json.loads(bao("list", "-format=json", place, "hvac/keys")) == ["app", "second"]
    assert json.loads(bao("token", "lookup", "-format=json", place))["data"]["policies"] == ["root"]
    bao("namespace", "delete", f"-namespace={red.path}/kid", "baby")


def test_every_worker_knows_it_when_the_answer_leaves(api: Api) -> None:
    for _ in range(2):
        red = tenant(api)
        for _ in range(8):
            with Api(api.address, api.token) as fresh:
                assert Tenant(fresh, red.path).call("GET", "auth/token/lookup-self").status == 200
        token = red.token()[0]
        api.delete(f"sys/namespaces/{red.path}")
        for _ in range(8):
            with Api(api.address, token) as fresh:
                assert Tenant(fresh, red.path).call("GET", "auth/token/lookup-self").status in {403, 404}


def _token(api: Api, policy: str) -> str:
    name = f"p-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/policies/acl/{name}", {"policy": policy})
    token: str = api.post("auth/token/create", {"policies": [name]}).json["auth"]["client_token"]
    return token
