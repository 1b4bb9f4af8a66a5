"""Codes: the published vectors, one spelling, each once, and not too many guesses."""

from __future__ import annotations

from base64 import b32decode, b64decode

import pytest

from kms.identity.mfa.codes import FAILURE_SECONDS, TooManyTriesError, checked, picture_of, url_of
from kms.identity.mfa.store import Method, Secret

# RFC 6238, appendix B, with its errata: secrets are the digits repeated to the length of the hash.
DIGITS = b"1234567890" * 7
VECTORS = [
    ("SHA1", 20, 59, "94287082"),
    ("SHA256", 32, 59, "46119246"),
    ("SHA512", 64, 59, "90693936"),
    ("SHA1", 20, 1_111_111_109, "07081804"),
    ("SHA256", 32, 1_111_111_109, "68084774"),
    ("SHA512", 64, 1_111_111_109, "25091201"),
    ("SHA1", 20, 2_000_000_000, "69279037"),
    ("SHA256", 32, 20_000_000_000, "77737706"),
    ("SHA512", 64, 20_000_000_000, "47863826"),
]
METHOD = Method(id="m", issuer="Acme", digits=8)
SECRET = Secret(secret=DIGITS[:20])
AT = 1_111_111_109.0
CODE = "07081804"


@pytest.mark.parametrize(("algorithm", "size", "at", "code"), VECTORS)
def test_the_vectors_of_the_rfc(algorithm: str, size: int, at: int, code: str) -> None:
    method = Method(id="m", issuer="Acme", digits=8, algorithm=algorithm, skew=0)
    assert checked(method, Secret(secret=DIGITS[:size]), code, float(at))[1]


def test_a_code_is_accepted_once_and_no_older_one_after_it() -> None:
    after, good = checked(METHOD, SECRET, CODE, AT)
    assert good
    assert not checked(METHOD, after, CODE, AT)[1]
    assert not checked(METHOD, after, CODE, AT + 29)[1]
    older = "33750025"  # whatever the period before had
    assert not checked(METHOD, after, older, AT)[1]


def test_the_skew_reaches_one_period_each_way() -> None:
    assert [checked(METHOD, SECRET, CODE, AT + shift)[1] for shift in (-60, -30, 0, 30, 60)] == [
        False,
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "code",
    [
        f" {CODE}",
        f"{CODE} ",
        "0708 1804",
        f"{CODE}\n",
        f"\u200b{CODE}",
        CODE[:-1],
        f"0{CODE}",
        "".join(chr(0xFF10 + int(digit)) for digit in CODE),
        "".join(chr(0x0660 + int(digit)) for digit in CODE),
        f"+{CODE[1:]}",
        CODE[2:],
        "",
    ],
)
def test_nothing_but_its_digits_is_a_code(code: str) -> None:
    after, good = checked(METHOD, SECRET, code, AT)
    assert not good
    assert after.failures == 1


def test_guesses_are_not_looked_at_after_five_and_forgotten_after_a_while() -> None:
    held = SECRET
    for _ in range(5):
        held, good = checked(METHOD, held, "00000000", AT)
        assert not good
    with pytest.raises(TooManyTriesError) as many:
        checked(METHOD, held, CODE, AT)
    assert many.value.seconds == FAILURE_SECONDS
    later = AT + FAILURE_SECONDS
    assert checked(METHOD, held, "00000000", later)[0].failures == 1
    four, _ = checked(METHOD, SECRET, "00000000", AT)
    assert checked(METHOD, four, CODE, AT)[0].failures == 0


def test_what_authenticators_read() -> None:
    method = Method(id="m", issuer="Acme & Söhne", period=60, algorithm="SHA256")
    url = url_of(method, DIGITS[:20], "e-1")
    head, _, query = url.partition("?")
    assert head == "otpauth://totp/Acme%20%26%20S%C3%B6hne:e-1"
    fields = dict(pair.split("=") for pair in query.split("&"))
    assert b32decode(fields.pop("secret")) == DIGITS[:20]
    assert fields == {
        "algorithm": "SHA256",
        "digits": "6",
        "issuer": "Acme%20%26%20S%C3%B6hne",
        "period": "60",
    }
    assert b64decode(picture_of(url, 200)).startswith(b"\x89PNG")
    assert picture_of(url, 0) == ""
