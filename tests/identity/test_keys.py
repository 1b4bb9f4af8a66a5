"""Token strings and the row keys made of them."""

from __future__ import annotations

import hmac
import secrets
from functools import partial

import pytest

from kms.errors import ErrorKind, KmsError
from kms.identity.keys import RowKeys, check_custom, new_accessor, new_token
from kms.sensitive import Sensitive


@pytest.mark.parametrize("size", [1, 32, 64])
def test_row_keys_are_hmacs(size: int) -> None:
    for text in ("", "hvs." + "a" * 24, "x" * 1_000, "\u00e9", "\ud800"):
        key = secrets.token_bytes(size)
        keys = RowKeys(partial(Sensitive, key))
        raw = text.encode("utf-8", "surrogatepass")
        assert hmac.digest(key, b"token/" + raw, "sha256").hex() == keys.token(text)
        assert hmac.digest(key, b"accessor/" + raw, "sha256").hex() == keys.accessor(text)


def test_a_key_of_wrong_size_is_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        RowKeys(lambda: Sensitive(b"k" * 65)).token("x")


def test_no_key_no_answer_and_a_forgotten_key_is_asked_for_again() -> None:
    held: list[bytes] = []

    def provide() -> Sensitive:
        if not held:
            raise KmsError(ErrorKind.SEALED, "Vault is sealed")
        return Sensitive(held[0])

    keys = RowKeys(provide)
    with pytest.raises(KmsError):
        keys.token("x")
    held.append(b"1" * 32)
    first = keys.token("x")
    held[0] = b"2" * 32
    assert keys.token("x") == first
    keys.forget()
    assert keys.token("x") != first


def test_new_strings_have_the_shape_that_clients_know() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(token.startswith("hvs.") and len(token) == 28 and token[4:].isalnum() for token in tokens)
    assert len(new_accessor()) == 24


@pytest.mark.parametrize(
    "token",
    ["hvs.x", "hvb.x", "hvr.x", "s.x", "b.x", "r.x", "a.b", "", " a", "a ", "a\n", "\u00e9", "a" * 257],
)
def test_custom_strings_that_could_be_mistaken_are_refused(token: str) -> None:
    with pytest.raises(KmsError):
        check_custom(token)


@pytest.mark.parametrize("token", ["root", "my token", "a" * 256, "~!x"])
def test_other_custom_strings_are_taken(token: str) -> None:
    assert check_custom(token) == token
