"""Public documents, settings, lists, tidy, deletion, and the tables of operations and routes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from cryptography import x509

from kms.errors import ErrorKind, KmsError
from kms.operation import Caller, Effect, Evidence, Needs
from pki.http import ROUTES
from pki.model import DAY
from tests.pki.bench import START, Bench, load

EMPTY_DOCUMENTS = ["ca", "ca-pem", "ca-chain", "crl", "crl-pem"]


@pytest.mark.parametrize("name", EMPTY_DOCUMENTS)
def test_without_a_ca_documents_are_empty(bench: Bench, name: str) -> None:
    result = bench.result(name)
    assert result.raw is None
    assert result.data is None


@pytest.mark.parametrize("name", ["cert-ca", "cert-ca-chain", "cert-crl", "issuer-read", "issuer-json"])
def test_without_a_ca_json_says_so(bench: Bench, name: str) -> None:
    given = {"issuer_ref": "default"} if name.startswith("issuer") else {}
    with pytest.raises(KmsError, match="no default issuer currently configured"):
        bench.result(name, **given)


TYPES = {
    "ca": "application/pkix-cert",
    "ca-pem": "application/pem-certificate-chain",
    "ca-chain": "application/pkix-cert",
    "crl": "application/pkix-crl",
    "crl-pem": "application/x-pem-file",
}


@pytest.mark.parametrize(("name", "wanted"), TYPES.items())
def test_content_types_are_the_peers(ca: Bench, name: str, wanted: str) -> None:
    raw = ca.result(name).raw
    assert raw is not None
    assert raw[1] == wanted


@pytest.mark.parametrize("form", ["{}", "upper", "-", ""])
def test_a_certificate_by_serial(ca: Bench, form: str) -> None:
    data = ca.issue()
    serial = data["serial_number"]
    spelt = {
        "{}": serial,
        "upper": serial.upper(),
        "-": serial.replace(":", "-"),
        "": serial.replace(":", ""),
    }[form]
    read = ca.do("cert", serial=spelt)
    assert read == {"certificate": data["certificate"], "revocation_time": 0, "revocation_time_rfc3339": ""}
    assert load(ca.raw("cert-raw-pem", serial=spelt).decode()) == x509.load_der_x509_certificate(
        ca.raw("cert-raw", serial=spelt)
    )


@pytest.mark.parametrize("serial", ["11:22", "zz", "", "a" * 100, "../x"])
def test_an_unknown_serial(ca: Bench, serial: str) -> None:
    with pytest.raises(KmsError) as missing:
        ca.do("cert", serial=serial)
    assert missing.value.kind is ErrorKind.NOT_FOUND


def test_public_documents_are_read_while_sealed(ca: Bench) -> None:
    before = ca.raw("crl")
    ca.store.lock()
    for name in EMPTY_DOCUMENTS:
        assert ca.raw(name)
    assert ca.raw("crl") == before
    assert ca.raw("issuer-der", issuer_ref="default") == ca.raw("ca")


def test_fetching_signs_nothing(ca: Bench) -> None:
    ca.do("revoke", serial_number=ca.issue()["serial_number"])
    ca.raw("crl")  # made for the first who asks
    ca.token.calls.clear()
    for name in EMPTY_DOCUMENTS:
        ca.raw(name)
    ca.do("issuer-crl-json", issuer_ref="default")
    assert ca.raw("issuer-crl-pem", issuer_ref="default") == ca.raw("crl-pem")
    assert ca.token.calls == []


@pytest.mark.parametrize(
    "name", ["certs-list", "certs-revoked-list", "roles-list", "issuers-list", "keys-list"]
)
def test_an_empty_list_is_not_found(bench: Bench, name: str) -> None:
    with pytest.raises(KmsError) as empty:
        bench.do(name)
    assert empty.value.kind is ErrorKind.NOT_FOUND


def test_lists_are_paged(ca: Bench) -> None:
    for name in ("a", "b", "c"):
        ca.role(name)
    assert ca.do("roles-list", limit=2)["keys"] == ["a", "b"]
    assert ca.do("roles-list", after="b")["keys"] == ["c", "web"]
    serials = [ca.issue()["serial_number"] for _ in range(3)]
    every = ca.do("certs-list")["keys"]
    assert set(serials) < set(every)
    assert ca.do("certs-list", after=every[1], limit=1)["keys"] == [every[2]]


def test_mounts_share_nothing(ca: Bench) -> None:
    ca.root("other")
    for name in ("roles-list", "certs-revoked-list"):
        with pytest.raises(KmsError):
            ca.do(name, "other")
    assert ca.raw("ca") != ca.raw("ca", "other")
    serial = ca.issue()["serial_number"]
    with pytest.raises(KmsError):
        ca.do("cert", "other", serial=serial)


def test_settings_and_their_defaults(bench: Bench) -> None:
    assert bench.do("config-urls-read") == {
        "crl_distribution_points": [],
        "delta_crl_distribution_points": [],
        "enable_templating": False,
        "issuing_certificates": [],
        "ocsp_servers": [],
    }
    assert bench.do("config-crl-read") == {
        "allow_expired_cert_revocation": False,
        "auto_rebuild": False,
        "auto_rebuild_grace_period": "12h",
        "delta_rebuild_interval": "15m",
        "disable": False,
        "enable_delta": False,
        "expiry": "72h",
        "ocsp_disable": False,
        "ocsp_expiry": "12h",
        "shards": 0,
    }
    assert bench.do("config-issuers-read") == {"default": "", "default_follows_latest_issuer": False}
    assert bench.do("config-keys-read") == {"default": ""}
    bench.do("config-urls-write", ocsp_servers=["http://x/ocsp"])
    changed = bench.do("config-urls-write", issuing_certificates=["http://x/ca"])
    assert changed["ocsp_servers"] == ["http://x/ocsp"]


@pytest.mark.parametrize(
    "url", ["not a url", "ftp://x/y", "http://", "http://a b/", "javascript:x", "http://x/\n"]
)
def test_urls_that_are_none(bench: Bench, url: str) -> None:
    with pytest.raises(
        KmsError, match=r"^invalid URL found in Authority Information Access \(AIA\) parameter"
    ):
        bench.do("config-urls-write", issuing_certificates=[url])


def test_the_default_key_and_settings_of_an_issuer(ca: Bench) -> None:
    key = ca.do("intermediate-generate", common_name="X", key_type="ec", key_name="ik", exported="internal")[
        "key_id"
    ]
    assert ca.do("config-keys-write", default="ik") == {"default": key}
    assert ca.do("key-read", key_ref="default")["key_id"] == key
    ca.do("issuer-write", issuer_ref="default", crl_distribution_points=["http://own/crl"])
    points = (
        load(ca.issue()["certificate"]).extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    )
    assert points[0].full_name is not None
    assert points[0].full_name[0].value == "http://own/crl"


def test_tidy_forgets_only_what_nobody_needs(ca: Bench) -> None:
    old = ca.issue(ttl=3600)["serial_number"]
    ca.clock.seconds += 3600 + 3 * DAY + 1
    new = ca.issue()["serial_number"]
    ca.do("tidy", tidy_cert_store=True)
    serials = ca.do("certs-list")["keys"]
    assert new in serials
    assert old not in serials
    status = ca.do("tidy-status")
    assert status["state"] == "Finished"
    assert status["cert_store_deleted_count"] == 1
    assert ca.result("tidy").warnings[0].startswith("Manual tidy requested but no tidy operations were set")
    assert "cannot be cancelled" in ca.result("tidy-cancel").warnings[0]


def test_deleting_issuers_and_keys(ca: Bench) -> None:
    issued = ca.issue()
    issuer, key = ca.do("config-issuers-read")["default"], ca.do("keys-list")["keys"][0]
    with pytest.raises(KmsError, match="Key in Use by Issuer"):
        ca.do("key-delete", key_ref=key)
    assert "default issuer" in ca.result("issuer-delete", issuer_ref="default").warnings[0]
    assert ca.result("issuer-delete", issuer_ref=issuer).warnings == ()
    with pytest.raises(KmsError, match="no default issuer"):
        ca.issue()
    assert ca.result("ca").raw is None
    assert ca.do("cert", serial=issued["serial_number"])["certificate"] == issued["certificate"]
    ca.do("key-delete", key_ref=key)
    ca.do("key-delete", key_ref=key)
    with pytest.raises(KmsError):
        ca.do("keys-list")
    assert "destroy" not in ca.token.calls
    ca.clock.seconds += 30 * DAY
    assert ca.chores() == 1
    assert "destroy" in ca.token.calls


def test_deleting_the_root_removes_all(ca: Bench) -> None:
    ca.root(issuer_name="two", common_name="Two")
    ca.do("root-delete")
    with pytest.raises(KmsError):
        ca.do("issuers-list")
    ca.root()
    ca.issue()


def _operations(bench: Bench) -> dict[str, Any]:
    return dict(bench.operations)


def test_each_operation_has_a_route_and_each_route_an_operation(bench: Bench) -> None:
    assert {route.operation for route in ROUTES} == set(_operations(bench))
    lines = [(route.verb, route.pattern) for route in ROUTES]
    assert len(lines) == len(set(lines))


def test_path_parameters_are_declared_fields(bench: Bench) -> None:
    for route in ROUTES:
        declared = {field.name for field in bench.operations[route.operation].fields}
        # A public document of the default issuer has no parameter, and `exported` a default.
        assert set(re.findall(r"{(\w+)}", route.pattern)) <= declared | {"exported"}, route.pattern


def test_declarations_are_legal(bench: Bench) -> None:
    for operation in _operations(bench).values():
        if operation.caller is Caller.PUBLIC:
            assert operation.evidence is Evidence.COUNTED
            assert operation.effect is Effect.NONE
        else:
            assert operation.evidence is Evidence.EACH
            assert operation.needs is Needs.UNSEALED
        assert (operation.effect is Effect.EXTERNAL) == (operation.resolve is not None)


def test_the_record_of_a_certificate_names_it(ca: Bench) -> None:
    data = ca.issue()
    subject = ca.subjects[-1]
    assert subject["serial"] == data["serial_number"].replace(":", "")
    assert subject["not_after"] == data["expiration"] == START + DAY - 1
    assert subject["sha256"]
    assert "PRIVATE" not in str(subject)
