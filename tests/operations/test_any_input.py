"""Whatever a client sends, it gets an answer or a refusal, never a crash."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kms.errors import ErrorKind, KmsError
from kms.http.vault.render import render
from kms.http.vault.router import Match, Router
from kms.http.vault.transit import ROUTES
from tests.keys.rig import Rig

KINDS = {ErrorKind.INVALID, ErrorKind.NOT_FOUND, ErrorKind.DENIED}
TEXTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["vault:v1:", "vault:v1:AAAA", "aGVsbG8=", "sha2-256", "none", "jws", "hsm", "true", "1", ""]
    ),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-2, 3),
    TEXTS,
    st.decimals(allow_nan=False).map(Decimal),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3))
)
ITEM_FIELDS = (
    "plaintext",
    "ciphertext",
    "input",
    "signature",
    "hmac",
    "cmac",
    "reference",
    "context",
    "associated_data",
    "key_version",
)
ITEMS = st.lists(st.dictionaries(st.sampled_from(ITEM_FIELDS), SCALARS, max_size=5), max_size=3)
PATHS = {
    "name": "k",
    "alias": "a",
    "kind": "plaintext",
    "urlalgorithm": "sha2-256",
    "urlsource": "all",
    "urlbytes": "8",
    "urlmaclength": "8",
    "pending_id": "x",
    "version": "1",
    "destination": "rsa",
    "source": "aes",
}


# What has no way back, or none that is likely to be drawn: done to one key, so that the others go on.
ENDING = {f"transit.keys.{verb}" for verb in ("suspend", "deactivate", "compromise", "soft-delete")}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory, token: Any) -> Rig:
    rig = Rig(tmp_path_factory.mktemp("db"), lambda: token.hsm, token.roots)
    for name, type_ in (
        ("aes", "aes256-gcm96"),
        ("p256", "ecdsa-p256"),
        ("rsa", "rsa-2048"),
        ("mac", "hmac"),
        ("cmac", "aes128-cmac"),
        ("kwp", "aes256-kwp"),
        ("kem", "mlkem-768"),
        ("mldsa", "mldsa-44"),
    ):
        rig.create(name, type_, protection="software")
    rig.create("hsm", protection="hsm")
    rig.create("spare")
    rig.create("derived", derived=True)
    rig.create("signer", "ed25519", derived=True)
    return rig


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(st.data())
def test_no_input_makes_an_operation_fall_over(keys: Rig, data: st.DataObject) -> None:
    router = Router(ROUTES, keys.table)
    route = data.draw(st.sampled_from(ROUTES))
    name = data.draw(
        st.sampled_from(
            ["aes", "p256", "rsa", "mac", "cmac", "hsm", "derived", "signer", "kwp", "kem", "mldsa", "none"]
        )
    )
    if route.operation in ENDING:
        name = "spare"
    path = route.pattern.format(**{**PATHS, "name": name})
    match = router.match(route.verb, f"{path}/" if route.verb == "LIST" else path)
    assert isinstance(match, Match)
    operation = match.compiled.operation
    fields = [field.name for field in operation.fields if field.name != "type"]
    body = data.draw(st.dictionaries(st.sampled_from(fields), VALUES)) if fields else {}
    if "batch_input" in fields and data.draw(st.booleans()):
        body["batch_input"] = data.draw(ITEMS)
    try:
        args, given_, warnings = match.compiled.plan.arguments(body, match.arguments())
        named = {field: value for field, value in args.items() if field in given_}
        result = keys.result(operation.name.removeprefix("transit."), **named)
    except KmsError as error:
        if error.kind in KINDS:
            return
        raise
    render(route, result, "id", warnings)
