"""T-02b: every theft is refused, and where it is not, we say so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pkcs11.constants import Attribute

from kms.hsm import Hsm, HsmConfig, KeySpec, Purpose, TokenInfo, objects, templates, theft
from kms.ids import new_cka_id
from tests.hsm.parts import opened


@pytest.mark.usefixtures("roots")
def test_every_theft_is_refused(hsm: Hsm) -> None:
    before = hsm.objects("")
    rows = theft.steal(hsm)
    for row in rows:
        print(f"{'refused' if row.refused else 'STOLEN ':8} {row.attempt}: {row.how}")
    assert [row.attempt for row in rows if not row.refused] == []
    assert len(rows) == 3 * (len(theft.ATTEMPTS) + 8)
    assert hsm.objects("") == before
    assert theft.verdict(rows, hsm.info) == "simulated: its files and PIN are the keys"


def without(*names: Attribute) -> Any:
    """Templates of wrapping keys that lack some attributes."""
    honest = templates.secret_half

    def lax(purpose: Purpose, *arguments: Any, **options: Any) -> Any:
        template = honest(purpose, *arguments, **options)
        dropped = names if purpose in templates.WRAPS else ()
        return {name: value for name, value in template.items() if name not in dropped}

    return lax


def test_without_nested_templates_the_thief_wins_and_the_verdict_says_so(
    config: HsmConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempts are real: without CKA_UNWRAP_TEMPLATE each blob is given back readable."""
    with opened(config) as hsm:
        monkeypatch.setattr(
            templates, "secret_half", without(Attribute.UNWRAP_TEMPLATE, Attribute.WRAP_TEMPLATE)
        )
        rows = theft.steal(hsm)
        stolen = {row.attempt.partition(": ")[2] for row in rows if not row.refused}
        assert {
            "unwrap the blob as a readable key",
            "unwrap the blob as an extractable key",
            "unwrap the blob for another use",
            "wrap a key whose value is known",
        } <= stolen
        assert theft.verdict(rows, hsm.info) == "enforced by Keystead only"
        assert all(row.refused for row in rows if not row.by_token), "rows are Keystead's own to refuse"


def test_a_modifiable_root_is_noticed(config: HsmConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(config) as hsm:
        monkeypatch.setattr(templates, "secret_half", without(Attribute.MODIFIABLE, Attribute.COPYABLE))
        monkeypatch.setattr(objects, "assert_template", lambda *_, **__: None)
        stolen = {row.attempt.partition(": ")[2] for row in theft.steal(hsm) if not row.refused}
        assert "let the wrapping key decrypt (flag flip)" in stolen
        assert "copy the wrapping key with more rights" in stolen


def test_leftovers_of_a_killed_test_are_removed(hsm: Hsm) -> None:
    hsm.generate(Purpose.ROOT_WRAP_ENC, KeySpec.AES_256, new_cka_id(), theft.LABEL)
    theft.steal(hsm)
    assert hsm.objects(theft.LABEL) == []


INFO = TokenInfo("SoftHSM project", "SoftHSM v2", "1", "x", "2.6", "x", os_locking=True)
GOOD = theft.Attempt("x", refused=True, how="x", by_token=True)
VERDICTS = [
    (INFO, [GOOD], "simulated: its files and PIN are the keys"),
    (replace(INFO, manufacturer="Acme", model="Vault 9000"), [GOOD], "enforced by token"),
    (
        replace(INFO, manufacturer="Acme", model="Vault 9000"),
        [GOOD, replace(GOOD, refused=False)],
        "enforced by Keystead only",
    ),
    (INFO, [replace(GOOD, refused=False)], "enforced by Keystead only"),
]


@pytest.mark.parametrize(("info", "rows", "word"), VERDICTS)
def test_verdict(info: TokenInfo, rows: list[theft.Attempt], word: str) -> None:
    assert theft.verdict(rows, info) == word
