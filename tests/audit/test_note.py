"""C2SP notes and checkpoints: the published example, and every spelling but the right one."""

from __future__ import annotations

import base64

import pytest

from kms.audit.note import (
    MAX_NOTE,
    Checkpoint,
    LogKey,
    check_origin,
    open_checkpoint,
    open_note,
    parse_key,
    sign_checkpoint,
)
from kms.errors import KmsError
from tests.audit.rig import ORIGIN, Signer

# The example of golang.org/x/mod/sumdb/note, which the C2SP format comes from.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_the_published_key_and_note() -> None:
    key = parse_key(PETER)
    assert key.line() == PETER
    assert key.hash.hex() == "c74f20a3"
    assert open_note(NOTE.encode(), [key]).startswith("If you think")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "PeterNeumann",
        PETER[:-1],
        PETER + "A",
        PETER.replace("c74f20a3", "c74f20a4"),
        PETER.replace("c74f20a3", "C74F20A3"),
        PETER.replace("PeterNeumann", "Peter Neumann"),
        PETER.replace("PeterNeumann", ""),
        PETER.replace("ARpc", "Ampc"),
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
    ],
)
def test_other_spellings_of_a_key_are_refused(line: str) -> None:
    with pytest.raises(KmsError):
        parse_key(line)


@pytest.mark.parametrize("origin", ["", "a b", "a+b", "a;b", "é", "a\n", "x" * 129])
def test_origins_that_cannot_be_a_key_name_are_refused(origin: str) -> None:
    with pytest.raises(KmsError):
        check_origin(origin)


@pytest.fixture
def signer() -> Signer:
    return Signer()


def test_a_checkpoint_comes_back(signer: Signer) -> None:
    head = Checkpoint(ORIGIN, 20852163, bytes(range(32)))
    note = sign_checkpoint(head, signer)
    assert note.decode().split("\n")[:4] == [ORIGIN, "20852163", base64.b64encode(head.root).decode(), ""]
    assert open_checkpoint(note, [LogKey(ORIGIN, signer.public)]) == head


def test_signatures_of_others_are_skipped_and_wrong_ones_of_ours_are_not(signer: Signer) -> None:
    key = LogKey(ORIGIN, signer.public)
    note = sign_checkpoint(Checkpoint(ORIGIN, 1, bytes(32)), signer)
    witness = b"\xe2\x80\x94 witness.example/w " + base64.b64encode(b"\0" * 76) + b"\n"
    assert open_checkpoint(note + witness, [key]).size == 1
    forged = base64.b64encode(key.hash + b"\0" * 64).decode()
    with pytest.raises(KmsError, match="wrong"):
        open_checkpoint(note + f"— {ORIGIN} {forged}\n".encode(), [key])
    with pytest.raises(KmsError, match="no known key"):
        open_checkpoint(note, [LogKey("other", signer.public)])
    with pytest.raises(KmsError, match="no known key"):
        open_checkpoint(note, [LogKey(ORIGIN, Signer().public)])


ROOT = base64.b64encode(bytes(32)).decode()
BAD_TEXTS = {
    "leading zero": f"{ORIGIN}\n01\n{ROOT}\n",
    "sign": f"{ORIGIN}\n+1\n{ROOT}\n",
    "too large": f"{ORIGIN}\n9223372036854775808\n{ROOT}\n",
    "no number": f"{ORIGIN}\nx\n{ROOT}\n",
    "other digits": f"{ORIGIN}\n\u0661\n{ROOT}\n",
    "no padding": f"{ORIGIN}\n1\n{ROOT[:-1]}\n",
    "loose bits": f"{ORIGIN}\n1\n{ROOT[:-2]}B=\n",
    "short root": f"{ORIGIN}\n1\n{base64.b64encode(bytes(31)).decode()}\n",
    "extension": f"{ORIGIN}\n1\n{ROOT}\nmore\n",
    "two lines": f"{ORIGIN}\n1\n",
    "empty origin": f"\n1\n{ROOT}\n",
    "blank line inside": f"{ORIGIN}\n\n1\n{ROOT}\n",
    "control character": f"{ORIGIN}\t\n1\n{ROOT}\n",
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_a_signed_text_that_is_no_checkpoint_is_refused(name: str, signer: Signer) -> None:
    text = BAD_TEXTS[name]
    key = LogKey(ORIGIN, signer.public)
    signature = base64.b64encode(key.hash + signer.sign(text.encode())).decode()
    with pytest.raises(KmsError):
        open_checkpoint(f"{text}\n— {ORIGIN} {signature}\n".encode(), [key])


def test_broken_notes_are_refused(signer: Signer) -> None:
    key = LogKey(ORIGIN, signer.public)
    note = sign_checkpoint(Checkpoint(ORIGIN, 1, bytes(32)), signer)
    line = note.splitlines(keepends=True)[-1]
    for bad in (
        b"",
        note[:-1],
        note.replace("—".encode(), b"-"),
        note.replace(b"\n\n", b"\n"),
        note + b"\n",
        note + b"x\n",
        note.replace(b"\n\n", b"\n\xff\n"),
        note + line * 16,
        note + b"\xe2\x80\x94 w " + b"A" * MAX_NOTE + b"\n",
    ):
        with pytest.raises(KmsError):
            open_checkpoint(bad, [key])
