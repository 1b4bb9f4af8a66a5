"""What AWS KMS has and transit has not: re-encryption between keys, data key pairs, secp256k1. By hvac and OpenSSL."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hvac
import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_public_key

from tests.conftest import TokenFactory
from tests.harness import processes
from tests.harness.api import Api
from tests.harness.dev import DevServer
from tests.harness.log import entries

Mount = Callable[[str], str]
SECRET = base64.b64encode(b"moved, not shown").decode()
FROM = 'path "{m}/reencrypt/from" {{ capabilities = ["update"] }}\n'
TO = 'path "{m}/reencrypt/to/into" {{ capabilities = ["update"] }}\n'
# Each would do on its own if policy were asked about one key only.
NOT_ENOUGH = {
    "nothing": 'path "{m}/keys/+" {{ capabilities = ["read"] }}',
    "the source alone": FROM,
    "the destination alone": TO,
    "encrypt and decrypt": (
        'path "{m}/decrypt/from" {{ capabilities = ["update"] }}\n'
        'path "{m}/encrypt/into" {{ capabilities = ["update", "create"] }}\n'
    ),
    "the source and encrypt": FROM + 'path "{m}/encrypt/into" {{ capabilities = ["update"] }}\n',
    "the source and reading the destination": FROM
    + 'path "{m}/reencrypt/to/into" {{ capabilities = ["read", "create"] }}\n',
    "all sources, the destination denied": (
        'path "{m}/reencrypt/*" {{ capabilities = ["update"] }}\n'
        'path "{m}/reencrypt/to/into" {{ capabilities = ["deny"] }}\n'
    ),
    "the other way round": (
        'path "{m}/reencrypt/into" {{ capabilities = ["update"] }}\n'
        'path "{m}/reencrypt/to/from" {{ capabilities = ["update"] }}\n'
    ),
    "another destination by parameter": (
        'path "{m}/reencrypt/from" {{\n capabilities = ["update"]\n'
        ' allowed_parameters = {{ "destination" = ["other"]\n "ciphertext" = [] }}\n}}\n' + TO
    ),
}


@pytest.fixture
def transit(api: Api, mount: Mount) -> str:
    path = mount("transit")
    for name, protection in (("from", "hsm"), ("into", "software")):
        api.ok("POST", f"{path}/keys/{name}", {"type": "aes256-gcm96", "protection": protection})
    return path


def seal(api: Api, transit: str, name: str = "from", **fields: str) -> str:
    text: str = api.ok("POST", f"{transit}/encrypt/{name}", {"plaintext": SECRET, **fields})["ciphertext"]
    return text


@pytest.mark.parametrize("policy", NOT_ENOUGH.values(), ids=NOT_ENOUGH)
def test_policy_must_grant_both_keys(
    policy: str, server: DevServer, api: Api, transit: str, token_with: TokenFactory
) -> None:
    body = {"destination": "into", "ciphertext": seal(api, transit)}
    with server.api(token_with(policy.format(m=transit))) as caller:
        answer = caller.post(f"{transit}/reencrypt/from", body)
        assert (answer.status, answer.json.get("data")) == (403, None)


def test_who_may_not_use_a_destination_does_not_learn_whether_it_exists(
    server: DevServer, api: Api, transit: str, token_with: TokenFactory
) -> None:
    body = {"ciphertext": seal(api, transit)}
    with server.api(token_with(FROM.format(m=transit))) as caller:
        answers = [
            caller.post(f"{transit}/reencrypt/from", {**body, "destination": name})
            for name in ("into", "nosuch")
        ]
    assert [answer.status for answer in answers] == [403, 403]
    assert answers[0].content == answers[1].content


def test_the_refusal_is_on_record(
    server: DevServer, api: Api, transit: str, token_with: TokenFactory
) -> None:
    with server.api(token_with(FROM.format(m=transit))) as caller:
        caller.post(f"{transit}/reencrypt/from", {"destination": "into", "ciphertext": seal(api, transit)})
    found = [entry for entry in entries(server.audit) if entry.resource == f"{transit}/reencrypt/from"]
    assert [entry.outcome for entry in found] == ["denied"]
    assert found[0].event["fields"]["destination"] == "into"


def test_a_caller_with_both_rights_moves_what_it_cannot_read(
    server: DevServer, api: Api, transit: str, token_with: TokenFactory
) -> None:
    token = token_with((FROM + TO).format(m=transit))
    client = hvac.Client(url=server.address, token=token)
    given = {"destination": "into", "ciphertext": seal(api, transit)}
    moved = client.write_data(f"{transit}/reencrypt/from", data=given)["data"]
    client.adapter.close()
    assert sorted(moved) == ["ciphertext", "key_version"]
    with server.api(token) as caller:
        for name in ("from", "into"):
            assert caller.post(f"{transit}/decrypt/{name}", {"ciphertext": moved["ciphertext"]}).status == 403
    opened = api.ok("POST", f"{transit}/decrypt/into", {"ciphertext": moved["ciphertext"]})
    assert opened["plaintext"] == SECRET
    record = [e for e in entries(server.audit) if e.resource == f"{transit}/reencrypt/from"][-1]
    assert {"key_id", "destination_key_id", "destination_rule"} <= set(record.subject)
    assert SECRET not in str(record.event)


INTO_OTHER = 'path "{m}/reencrypt/to/into" {{ capabilities = ["update"] }}\n'
MISSPELT = ("{o}/", "/{o}", "{o}//x", "./{o}", "{o}/../{o}", "{o}%2f", " {o}", "{o}\\x", "{u}")


def test_another_mount_needs_a_grant_there_and_is_spelt_in_one_way(
    server: DevServer, api: Api, transit: str, mount: Mount, token_with: TokenFactory
) -> None:
    other, pki = mount("transit"), mount("pki")
    api.ok("POST", f"{other}/keys/into", {"type": "chacha20-poly1305"})
    path, body = f"{transit}/reencrypt/from", {"destination": "into", "ciphertext": seal(api, transit)}
    # A grant for the key of that name in the own mount is none for the other's.
    with server.api(token_with((FROM + TO).format(m=transit))) as caller:
        for where in (other, pki, "nosuch"):
            assert caller.post(path, {**body, "destination_mount": where}).status == 403
        assert caller.post(path, {**body, "destination_mount": transit}).status == 200
    with server.api(token_with(FROM.format(m=transit) + INTO_OTHER.format(m=other))) as caller:
        assert caller.post(path, body).status == 403
        moved = caller.ok("POST", path, {**body, "destination_mount": other})
        for form in MISSPELT:
            given = form.format(o=other, u=other.upper())
            assert caller.post(path, {**body, "destination_mount": given}).status in (400, 403), given
        assert caller.ok("POST", path, {**body, "destination_mount": other, "dry_run": True}) == {
            "dry_run": True
        }
    assert api.ok("POST", f"{other}/decrypt/into", {"ciphertext": moved["ciphertext"]})["plaintext"] == SECRET
    assert api.post(f"{transit}/decrypt/into", {"ciphertext": moved["ciphertext"]}).status == 400
    for where in (pki, "nosuch", f"{other}/keys"):
        refused = api.post(path, {**body, "destination_mount": where})
        assert (refused.status, refused.errors) == (
            400,
            [f"destination_mount '{where}' is not a transit mount"],
        )
    done = [e for e in entries(server.audit) if e.resource == path and e.outcome == "ok"]
    assert {e.event["fields"]["destination_mount"] for e in done} == {transit, other}


def test_contexts_associated_data_versions_and_batches(api: Api, transit: str) -> None:
    aad, context = base64.b64encode(b"row 7").decode(), base64.b64encode(b"tenant 7").decode()
    api.ok("POST", f"{transit}/keys/tenants", {"derived": True})
    api.ok("POST", f"{transit}/keys/into/rotate", {})
    sealed = seal(api, transit, associated_data=aad)
    path = f"{transit}/reencrypt/from"
    refused = api.post(path, {"destination": "tenants", "ciphertext": sealed})
    assert refused.status == 400
    whole = {"ciphertext": sealed, "associated_data": aad}
    moved = api.ok("POST", path, {**whole, "destination": "tenants", "destination_context": context})
    back = api.ok(
        "POST",
        f"{transit}/reencrypt/tenants",
        {**moved, "context": context, "destination": "into", "destination_associated_data": context}
        | {"key_version": 1},
    )
    assert back["key_version"] == 1
    opened = api.ok(
        "POST", f"{transit}/decrypt/into", {"ciphertext": back["ciphertext"], "associated_data": context}
    )
    assert opened["plaintext"] == SECRET
    batch = [{**whole, "reference": "a"}, {"ciphertext": sealed}, {"ciphertext": "x"}, {}]
    results = api.ok("POST", path, {"destination": "into", "batch_input": batch})["batch_results"]
    assert results[0]["ciphertext"].startswith("vault:v2:")
    assert results[0]["reference"] == "a"
    assert [item.get("error") for item in results[1:]] == [
        "cipher: message authentication failed",
        "invalid ciphertext: no prefix",
        "missing ciphertext to re-encrypt",
    ]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "missing destination: the name of the key to encrypt with"),
    ({"destination": "nosuch"}, "destination key not found"),
    ({"destination": "into"}, "missing ciphertext to re-encrypt"),
    ({"destination": "into", "ciphertext": "vault:v1:AAAA"}, "invalid ciphertext length"),
    ({"destination": "into", "ciphertext": "vault:v9:AAAA"}, "invalid ciphertext: version is too new"),
    ({"destination": "into", "batch_input": []}, "missing batch input to process"),
]


@pytest.mark.parametrize(("body", "text"), REFUSED)
def test_a_request_that_makes_no_sense_is_refused(
    body: dict[str, Any], text: str, api: Api, transit: str
) -> None:
    answer = api.post(f"{transit}/reencrypt/from", body)
    assert (answer.status, answer.errors) == (400, [text])
    assert api.post(f"{transit}/reencrypt/nosuch", {"destination": "into", "ciphertext": "x"}).status == 400


# -- data key pairs -------------------------------------------------------------------------------

PAIRS = [
    "ecdsa-p256",
    "ecdsa-p384",
    "ecdsa-p521",
    "ecdsa-secp256k1",
    "ed25519",
    "rsa-2048",
    "mldsa-44",
    "mlkem-768",
]


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("plaintext/from", {"type": "aes256-gcm96"}, "is no pair"),
        ("plaintext/from", {"type": "bogus"}, "unknown key type bogus"),
        ("bogus/from", {}, "must be 'plaintext' or 'wrapped'"),
        ("plaintext/nosuch", {}, "encryption key not found"),
        ("plaintext/rsa", {}, "cannot wrap pairs"),
        ("plaintext/from", {"context": "!!"}, "failed to base64-decode context"),
        ("plaintext/from", {"key_version": 9}, "higher than the latest key version"),
    ],
)
def test_a_pair_that_cannot_be_made_is_refused(
    path: str, body: dict[str, Any], text: str, api: Api, transit: str
) -> None:
    api.ok("POST", f"{transit}/keys/rsa", {"type": "rsa-2048"})
    answer = api.post(f"{transit}/datakeypair/{path}", body)
    assert answer.status == 400
    assert text in answer.errors[0]


@pytest.mark.parametrize("type_", PAIRS)
def test_a_pair_comes_wrapped_and_opens_to_its_own_private_half(
    type_: str, root: hvac.Client, transit: str
) -> None:
    wrapped = root.write_data(f"{transit}/datakeypair/wrapped/from", data={"type": type_})["data"]
    assert sorted(wrapped) == ["ciphertext", "key_version", "public_key", "type"]
    opened = root.secrets.transit.decrypt_data("from", wrapped["ciphertext"], mount_point=transit)
    private: Any = load_der_private_key(base64.b64decode(opened["data"]["plaintext"]), None)
    assert private.public_key() == load_pem_public_key(wrapped["public_key"].encode())

    clear = root.write_data(f"{transit}/datakeypair/plaintext/into", data={"type": type_})["data"]
    opened = root.secrets.transit.decrypt_data("into", clear["ciphertext"], mount_point=transit)
    assert opened["data"]["plaintext"] == clear["plaintext"]
    assert clear["public_key"] != wrapped["public_key"]


def test_wrapped_only_is_a_right_of_its_own(
    server: DevServer, transit: str, token_with: TokenFactory
) -> None:
    rule = f'path "{transit}/datakeypair/wrapped/*" {{ capabilities = ["update"] }}'
    with server.api(token_with(rule)) as caller:
        assert caller.post(f"{transit}/datakeypair/wrapped/from").status == 200
        assert caller.post(f"{transit}/datakeypair/plaintext/from").status == 403


# -- secp256k1 ------------------------------------------------------------------------------------


def openssl(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [processes.program("openssl"), *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


def test_secp256k1_signs_what_openssl_verifies(api: Api, mount: Mount, tmp_path: Path) -> None:
    transit = mount("transit")
    refused = api.post(f"{transit}/keys/coin", {"type": "ecdsa-secp256k1", "protection": "hsm"})
    assert refused.errors == ["keys of type ecdsa-secp256k1 cannot have protection hsm"]
    key = api.ok("POST", f"{transit}/keys/coin", {"type": "ecdsa-secp256k1"})
    assert key["keys"]["1"]["name"] == "secp256k1"
    (tmp_path / "public.pem").write_text(key["keys"]["1"]["public_key"])
    (tmp_path / "data").write_bytes(b"pay 5 to alice")
    body = {"input": base64.b64encode(b"pay 5 to alice").decode()}
    signature = api.ok("POST", f"{transit}/sign/coin", body)["signature"]
    (tmp_path / "signature").write_bytes(base64.b64decode(signature.split(":")[2]))
    check = ("dgst", "-sha256", "-verify", "public.pem", "-signature", "signature")
    assert openssl(*check, "data", folder=tmp_path).stdout == "Verified OK\n"
    (tmp_path / "data").write_bytes(b"pay 9 to alice")
    assert openssl(*check, "data", folder=tmp_path).returncode != 0

    jws = api.ok("POST", f"{transit}/sign/coin", {**body, "marshaling_algorithm": "jws"})["signature"]
    assert len(base64.urlsafe_b64decode(jws.split(":")[2] + "==")) == 64
    verify = {**body, "signature": jws, "marshaling_algorithm": "jws"}
    assert api.ok("POST", f"{transit}/verify/coin", verify) == {"valid": True}


def test_openssl_signs_what_an_imported_secp256k1_public_key_verifies(
    api: Api, mount: Mount, tmp_path: Path
) -> None:
    transit = mount("transit")
    openssl("ecparam", "-name", "secp256k1", "-genkey", "-noout", "-out", "key.pem", folder=tmp_path)
    public = openssl("ec", "-in", "key.pem", "-pubout", folder=tmp_path).stdout
    wrong = api.post(f"{transit}/keys/theirs/import", {"type": "ecdsa-p256", "public_key": public})
    assert wrong.status == 400
    api.ok("POST", f"{transit}/keys/theirs/import", {"type": "ecdsa-secp256k1", "public_key": public})
    (tmp_path / "data").write_bytes(b"hello")
    openssl("dgst", "-sha256", "-sign", "key.pem", "-out", "signature", "data", folder=tmp_path)
    raw = (tmp_path / "signature").read_bytes()
    body = {"input": base64.b64encode(b"hello").decode()}

    def verify(signature: bytes) -> int | bool:
        text = f"vault:v1:{base64.b64encode(signature).decode()}"
        answer = api.post(f"{transit}/verify/theirs", {**body, "signature": text})
        return bool(answer.data["valid"]) if answer.status == 200 else answer.status

    assert verify(raw + b"\0") == 400
    assert verify(raw[:-1]) == 400
    assert verify(raw[:-1] + bytes([raw[-1] ^ 1])) is False
    assert verify(raw) is True


def test_secp256k1_has_the_rest_of_a_keys_life(api: Api, mount: Mount, tmp_path: Path) -> None:
    transit = mount("transit")
    flags = {"exportable": True, "allow_plaintext_backup": True}
    api.ok("POST", f"{transit}/keys/coin", {"type": "ecdsa-secp256k1", **flags})
    api.ok("POST", f"{transit}/keys/coin/rotate", {})
    exported = api.ok("GET", f"{transit}/export/signing-key/coin/2")["keys"]["2"]
    (tmp_path / "key.pem").write_text(exported)
    public = openssl("ec", "-in", "key.pem", "-pubout", folder=tmp_path).stdout
    shown = api.ok("GET", f"{transit}/keys/coin")["keys"]["2"]["public_key"]
    assert public.strip() == shown.strip()

    request = api.ok("POST", f"{transit}/keys/coin/csr", {})["csr"]
    (tmp_path / "request.pem").write_text(request)
    checked = openssl("req", "-in", "request.pem", "-verify", "-noout", folder=tmp_path)
    assert checked.returncode == 0, checked.stderr

    signature = api.ok("POST", f"{transit}/sign/coin", {"input": SECRET})["signature"]
    backup = api.ok("GET", f"{transit}/backup/coin")["backup"]
    api.ok("POST", f"{transit}/restore/again", {"backup": backup})
    body = {"input": SECRET, "signature": signature}
    assert api.ok("POST", f"{transit}/verify/again", body) == {"valid": True}
