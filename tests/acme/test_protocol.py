"""The protocol, request by request: what proves itself, what is refused and how."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from tests.acme.client import ERROR, JOSE, Client, b64, binding, csr, jwk_of, new_key, sign
from tests.acme.conftest import ClientFactory
from tests.acme.site import Site

# -- nonces ------------------------------------------------------------------------------------------


def test_a_nonce_is_good_for_one_of_fifty_requests_at_once(client: Client) -> None:
    body = sign(client.key, {"url": client.kid, "nonce": client.nonce(), "kid": client.kid}, b"")
    with ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(lambda _: client.send(client.kid, body), range(50)))
    assert sorted(reply.status for reply in replies) == [200] + [400] * 49
    refused = [reply for reply in replies if reply.status == 400]
    assert {reply.problem for reply in refused} == {"badNonce"}
    assert len({reply.headers["Replay-Nonce"] for reply in replies}) == 50


def test_nonces_come_by_head_and_get_and_of_this_mount_alone(
    client: Client, own_site: Site, client_of: ClientFactory
) -> None:
    head = client.http.head(client.directory["newNonce"])
    assert (head.status_code, head.content) == (200, b"")
    get = client.http.get(client.directory["newNonce"])
    assert (get.status_code, get.content) == (204, b"")
    assert head.headers["Cache-Control"] == "no-store"
    assert head.headers["Link"].endswith(';rel="index"')
    foreign = client_of(own_site.directory).nonce()
    for nonce in ("", "x", foreign, b64(bytes(32)), head.headers["Replay-Nonce"] + "AA"):
        assert client.post(client.kid, None, nonce=nonce).problem == "badNonce"


# -- signatures --------------------------------------------------------------------------------------


def test_requests_that_do_not_prove_themselves_are_refused(client: Client, client_of: ClientFactory) -> None:
    kid, other = client.kid, new_key()
    header = {"url": kid, "kid": kid}
    good = sign(client.key, {**header, "nonce": client.nonce()}, b"")

    def signed(payload: bytes = b"", key: Any = client.key, **changes: Any) -> Any:
        members = {**header, "nonce": client.nonce(), **changes}
        return sign(key, {name: value for name, value in members.items() if value is not None}, payload)

    stranger = client_of(client.directory["newNonce"].replace("new-nonce", "directory"))
    cases: list[tuple[str, Any, str]] = [
        ("another key", signed(key=other), "malformed"),
        ("another payload", {**signed(), "payload": b64(b"{}")}, "malformed"),
        ("no signature", {**signed(), "signature": ""}, "malformed"),
        ("alg none", signed(alg="none"), "badSignatureAlgorithm"),
        ("alg HS256", signed(alg="HS256"), "badSignatureAlgorithm"),
        ("alg of another curve", signed(alg="ES384"), "badSignatureAlgorithm"),
        ("alg of another type", signed(alg="RS256"), "badSignatureAlgorithm"),
        ("another url", signed(url=kid + "x"), "unauthorized"),
        ("no url", signed(url=None), "malformed"),
        ("jwk and kid", signed(jwk=jwk_of(client.key)), "malformed"),
        ("neither", signed(kid=None), "malformed"),
        ("jwk where an account is due", signed(kid=None, jwk=jwk_of(client.key)), "malformed"),
        ("an unknown account", signed(kid=kid[:-1] + "x"), "accountDoesNotExist"),
        ("a kid elsewhere", signed(kid="https://evil.test/acme/account/1"), "accountDoesNotExist"),
        ("crit", signed(crit=["b64"], b64=False), "malformed"),
        ("an unprotected header", {**signed(), "header": {}}, "malformed"),
        ("signatures", {"payload": "", "signatures": [good]}, "malformed"),
        ("a number", {**signed(), "payload": 1}, "malformed"),
        ("padding", {**signed(), "protected": good["protected"] + "="}, "malformed"),
        ("no object", {**signed(), "protected": b64(b"[]")}, "malformed"),
        ("a name twice", {**signed(), "protected": b64(b'{"alg":"ES256","alg":"ES256"}')}, "malformed"),
        ("deep", {**signed(), "protected": b64(b"[" * 5000)}, "malformed"),
        ("empty", {}, "malformed"),
        ("much", {**signed(), "payload": "A" * 200_000}, "malformed"),
    ]
    for case, body, problem in cases:
        reply = client.send(kid, body)
        assert (case, reply.problem) == (case, problem)
        assert reply.headers["Replay-Nonce"]
    assert client.send(kid, good, "application/json").status == 415
    wrapped = client.http.post(kid, json=good, headers={"Content-Type": JOSE, "X-Vault-Wrap-TTL": "60"})
    assert (wrapped.status_code, wrapped.json()["type"]) == (400, ERROR + "malformed")
    assert client.send(kid, good).status == 200, "no refusal spent its nonce"
    assert stranger.post(kid, None, kid=kid).problem == "malformed"


def _jws(protected: dict[str, Any], payload: bytes, signature: Any) -> dict[str, str]:
    text = b64(json.dumps(protected).encode())
    return {
        "protected": text,
        "payload": b64(payload),
        "signature": b64(signature(f"{text}.{b64(payload)}".encode())),
    }


def test_account_keys_of_each_type_are_taken_and_others_are_not(client: Client) -> None:
    url = client.directory["newAccount"]

    def post(alg: str, jwk: dict[str, str], signature: Any) -> Any:
        return client.send(
            url, _jws({"alg": alg, "jwk": jwk, "url": url, "nonce": client.nonce()}, b"{}", signature)
        )

    big = rsa.generate_private_key(65537, 2048)
    numbers = big.public_key().public_numbers()
    e, n = b64(numbers.e.to_bytes(3)), b64(numbers.n.to_bytes(256))

    def sign_rsa(data: bytes) -> bytes:
        return big.sign(data, padding.PKCS1v15(), hashes.SHA256())

    edwards = ed25519.Ed25519PrivateKey.generate()
    x = b64(edwards.public_key().public_bytes_raw())
    assert post("RS256", {"kty": "RSA", "e": e, "n": n}, sign_rsa).status == 201
    assert post("EdDSA", {"kty": "OKP", "crv": "Ed25519", "x": x}, edwards.sign).status == 201
    point = jwk_of(new_key())
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"kty": "oct", "k": "AAAA"}, "badPublicKey"),
        ({"kty": "OKP", "crv": "X25519", "x": x}, "badPublicKey"),
        ({**point, "crv": "P-192"}, "badPublicKey"),
        ({**point, "y": point["x"]}, "badPublicKey"),  # not on the curve
        ({**point, "x": b64(bytes(1)) + point["x"]}, "malformed"),
        ({**point, "d": "AAAA"}, "badPublicKey"),
        ({"kty": "RSA", "e": e, "n": b64(b"\0" + numbers.n.to_bytes(256))}, "badPublicKey"),
        ({"kty": "RSA", "e": "AQ", "n": n}, "badPublicKey"),
        ({"kty": "EC"}, "malformed"),
    ]
    for jwk, problem in wrong:
        assert (jwk, post("ES256", jwk, lambda _: bytes(64)).problem) == (jwk, problem)
    small = rsa.generate_private_key(65537, 1024)  # noqa: S505  (refused)
    n = b64(small.public_key().public_numbers().n.to_bytes(128))
    reply = post(
        "RS256",
        {"kty": "RSA", "e": e, "n": n},
        lambda data: small.sign(data, padding.PKCS1v15(), hashes.SHA256()),
    )
    assert reply.problem == "badPublicKey"


# -- every message -----------------------------------------------------------------------------------


def test_every_resource_refuses_whoever_it_is_not_for(
    site: Site, client: Client, client_of: ClientFactory
) -> None:
    """T-52: each message type and challenge type, also unknown ones."""
    other = client_of(site.directory)
    other.register().ok(201)
    order = client.order(site.name()).ok(201)
    offered = client.challenges(order)[0]
    mine = [
        (client.kid, None),
        (client.kid, {"status": "deactivated"}),
        (f"{client.kid}/orders", None),
        (order.headers["Location"], None),
        (order.json["finalize"], {"csr": b64(csr(new_key(), "x.example.test"))}),
        (f"{order.headers['Location']}/cert", None),
        (f"{order.headers['Location']}/cert/1", None),
        (offered["url"], None),
        (offered["url"], {"status": "deactivated"}),
        *((offered[way]["url"], {}) for way in ("http-01", "dns-01", "tls-alpn-01")),
    ]
    for url, payload in mine:
        reply = other.post(url, payload)
        assert (url, reply.status, reply.problem) == (url, 404, "malformed")
        assert other.send(url, {}).problem == "malformed"
    assert client.post(client.kid).ok().json["status"] == "valid"
    assert client.post(offered["url"]).ok().json["status"] == "pending"
    for way in ("tls-sni-01", "dns-account-01", "device-attest-01", "http-02", "*"):
        assert client.post(offered["http-01"]["url"].replace("http-01", way), {}).status in {400, 404}
    for path in ("new-authz", "nothing", "order", "account"):  # the first is an option that is off
        url = client.directory["newOrder"].replace("new-order", path)
        assert client.post(url, {}).status in {403, 404, 405}
    for name in ("newAccount", "newOrder", "revokeCert", "keyChange"):
        assert client.http.get(client.directory[name]).status_code in {403, 405}


def test_a_request_to_another_directory_of_the_mount_has_no_account_there(
    site: Site, client: Client, client_of: ClientFactory
) -> None:
    default = client_of(f"{site.base}/acme/directory")
    assert set(default.directory) >= {"newNonce", "newOrder", "renewalInfo", "meta"}
    url = default.directory["newOrder"]
    assert client.post(url, {"identifiers": []}).problem == "accountDoesNotExist"
    moved = client.kid.replace("/roles/web/acme/", "/acme/")
    assert client.post(url, {"identifiers": []}, kid=moved).problem == "accountDoesNotExist"


# -- orders ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identifiers", "problem"),
    [
        ([], "malformed"),
        ("x", "malformed"),
        ([{"type": "dns"}], "malformed"),
        ([{"type": "dns", "value": 1}], "malformed"),
        ([{"type": "email", "value": "a@example.test"}], "unsupportedIdentifier"),
        ([{"type": "dns", "value": "a..example.test"}], "rejectedIdentifier"),
        ([{"type": "dns", "value": "*.*.example.test"}], "rejectedIdentifier"),
        ([{"type": "dns", "value": "a_b.example.test"}], "rejectedIdentifier"),
        ([{"type": "dns", "value": "127.0.0.1"}], "rejectedIdentifier"),
        ([{"type": "dns", "value": "other.test"}], "rejectedIdentifier"),  # the role
        ([{"type": "ip", "value": "127.0.0.01"}], "rejectedIdentifier"),
        ([{"type": "ip", "value": "::ffff:127.0.0.1"}], "malformed"),
        ([{"type": "dns", "value": "a.example.test"}] * 2, "malformed"),
        ([{"type": "dns", "value": f"a{n}.example.test"} for n in range(101)], "malformed"),
    ],
)
def test_identifiers_that_cannot_be_are_refused(client: Client, identifiers: Any, problem: str) -> None:
    assert client.post(client.directory["newOrder"], {"identifiers": identifiers}).problem == problem


def test_each_name_of_an_order_is_judged(client: Client) -> None:
    """T-53: the refusal names those, and only those, that are refused."""
    reply = client.order("a.example.test", "b.other.test", "c.example.test", "d.other.test")
    assert (reply.status, reply.problem) == (403, "rejectedIdentifier")
    named = [one["identifier"]["value"] for one in reply.json["subproblems"]]
    assert named == ["b.other.test", "d.other.test"]
    for position in range(3):
        names = ["a.example.test", "b.example.test", "c.example.test"]
        names[position] = "x.other.test"
        assert client.order(*names).problem == "rejectedIdentifier"


def test_an_order_ignores_unknown_members_and_refuses_an_unknown_profile(client: Client) -> None:
    unknown = {"authorizations": None, "status": "valid", "surprise": 1}  # ignored (RFC 8555 7.3)
    assert client.order("a.example.test", **unknown).ok(201).json["status"] == "pending"
    assert client.order("a.example.test", profile="none").problem == "invalidProfile"
    assert client.order("a.example.test", notAfter="tomorrow").problem == "malformed"


# -- accounts ----------------------------------------------------------------------------------------


def test_an_account_is_found_again_changed_and_deactivated(site: Site, client_of: ClientFactory) -> None:
    key = new_key()
    first, again = client_of(site.directory, key), client_of(site.directory, key)
    assert first.register(onlyReturnExisting=True).problem == "accountDoesNotExist"
    made = first.register(contact=["mailto:a@example.test"]).ok(201)
    assert made.json["status"] == "valid"
    assert again.register().ok().headers["Location"] == first.kid
    assert again.register().problem == "malformed", "a kid where a key is due"
    for contact in (["tel:1"], ["mailto:a@b.test,c@d.test"], "x", ["mailto:a@b.test?subject=x"]):
        assert first.post(first.kid, {"contact": contact}).problem in {"invalidContact", "unsupportedContact"}
    changed = first.post(first.kid, {"contact": ["mailto:b@example.test"]}).ok()
    assert changed.json["contact"] == ["mailto:b@example.test"]
    order = first.order(site.name()).ok(201)
    assert first.post(f"{first.kid}/orders").ok().json == {"orders": [order.headers["Location"]]}
    assert first.post(first.kid, {"status": "revoked"}).problem == "malformed"
    assert first.post(first.kid, {"status": "deactivated"}).ok().json["status"] == "deactivated"
    assert first.post(first.kid).problem == "unauthorized"
    assert first.post(order.headers["Location"]).problem == "unauthorized"
    fresh = client_of(site.directory, key)
    assert fresh.register().problem == "unauthorized"


def test_the_key_of_an_account_changes(site: Site, client: Client, client_of: ClientFactory) -> None:
    old, new, url = client.key, new_key(), client.directory["keyChange"]

    def inner(key: Any = new, **changes: Any) -> dict[str, str]:
        members: dict[str, Any] = {"account": client.kid, "oldKey": jwk_of(old), **changes}
        return sign(key, {"url": url, "jwk": jwk_of(new)}, json.dumps(members).encode())

    other = client_of(site.directory)
    other.register().ok(201)
    assert client.post(url, inner(account=other.kid)).problem == "malformed"
    assert client.post(url, inner(oldKey=jwk_of(other.key))).problem == "malformed"
    assert client.post(url, inner(key=other.key)).problem == "malformed"
    assert client.post(url, {}).problem == "malformed"
    taken = sign(
        other.key,
        {"url": url, "jwk": jwk_of(other.key)},
        json.dumps({"account": client.kid, "oldKey": jwk_of(old)}).encode(),
    )
    reply = client.post(url, taken)
    assert (reply.status, reply.headers["Location"]) == (409, other.kid)
    client.post(url, inner()).ok()
    assert client.post(client.kid).problem == "malformed", "the old key"
    client.key = new
    assert client.post(client.kid).ok().json["status"] == "valid"
    assert client_of(site.directory, old).register(onlyReturnExisting=True).problem == "accountDoesNotExist"


def test_external_account_binding(own_site: Site, client_of: ClientFactory) -> None:
    site = own_site
    site.configure(eab_policy="always-required")
    early = client_of(site.directory)
    assert early.directory["meta"]["externalAccountRequired"] is True
    assert early.register().problem == "externalAccountRequired"
    made = site.api.ok("POST", f"{site.mount}/roles/web/acme/new-eab")
    elsewhere = site.api.ok("POST", f"{site.mount}/acme/new-eab")
    assert made["acme_directory"] == "roles/web/acme/directory"
    assert set(site.api.list(f"{site.mount}/eab").data["keys"]) == {made["id"], elsewhere["id"]}
    kid, key = made["id"], made["key"]
    wrong = [
        (binding(early, elsewhere["id"], elsewhere["key"]), "unauthorized"),  # of another directory
        (binding(early, kid, elsewhere["key"]), "unauthorized"),
        (binding(early, "unknown", key), "unauthorized"),
        (binding(early, kid, key, url=early.kid or "x"), "malformed"),
        (binding(early, kid, key, nonce="x"), "malformed"),
        (binding(early, kid, key, alg="none"), "badSignatureAlgorithm"),
        (binding(client_of(site.directory), kid, key), "malformed"),  # for another account key
        ({**binding(early, kid, key), "header": {}}, "malformed"),
        ("x", "malformed"),
    ]
    for bound, problem in wrong:
        assert early.register(externalAccountBinding=bound).problem == problem
    early.register(externalAccountBinding=binding(early, kid, key)).ok(201)
    late = client_of(site.directory)
    assert late.register(externalAccountBinding=binding(late, kid, key)).problem == "unauthorized", "used"
    site.api.ok("DELETE", f"{site.mount}/eab/{elsewhere['id']}")
    assert site.api.list(f"{site.mount}/eab").status == 404
    # An account without one stops working where the policy is made stricter.
    site.configure(eab_policy="not-required")
    free = client_of(site.directory)
    free.register().ok(201)
    site.configure(eab_policy="always-required")
    assert free.post(free.kid).problem == "externalAccountRequired"
    early.post(early.kid).ok()


# -- off and limited ---------------------------------------------------------------------------------


def test_acme_that_is_off_is_not_there(own_site: Site, client_of: ClientFactory) -> None:
    client = client_of(own_site.directory)
    client.register().ok(201)
    own_site.configure(default_directory_policy="forbid")
    default = client.http.get(f"{own_site.base}/acme/directory")
    assert default.status_code == 403
    own_site.configure(enabled=False)
    assert client.http.get(own_site.directory).status_code == 404
    assert client.post(client.kid, nonce="x").status == 404


def test_limits_answer_429_and_say_when_to_come_again(own_site: Site, client_of: ClientFactory) -> None:
    site = own_site
    site.configure(
        accounts_per_address=2, orders_per_account=3, pending_authorizations=4, failed_validations=1
    )
    client = client_of(site.directory)
    client.register().ok(201)
    client_of(site.directory).register().ok(201)
    replies = [client_of(site.directory).register()]
    client.order(site.name(), site.name(), site.name()).ok(201)
    replies.append(client.order(site.name(), site.name()))  # five at one time
    client.order(site.name()).ok(201)
    site.configure(pending_authorizations=0)
    client.order(site.name()).ok(201)
    replies.append(client.order(site.name()))
    for reply in replies:
        assert (reply.status, reply.problem) == (429, "rateLimited")
        assert 1 <= int(reply.headers["Retry-After"]) <= 3600
        assert reply.headers["Replay-Nonce"]
