"""Finding the token and logging in, without ever locking it.

A PIN that the token refused is not sent again by this process, whoever asks and however often: tokens lock
after a few wrong attempts. Only a keyed fingerprint of it is kept. A changed PIN file gets its own single attempt.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, Final

from pkcs11 import exceptions as p11
from pkcs11.constants import TokenFlag

from kms.hsm import failures, templates
from kms.hsm.connection import Connection
from kms.hsm.model import HsmConfig, Seal
from kms.hsm.module import Module, unavailable
from kms.hsm.templates import attribute_mapper

MAX_PIN_FILE: Final = 1024
_PROCESS_KEY: Final = secrets.token_bytes(32)
_refused: Final[set[bytes]] = set()


def read_pin(config: HsmConfig) -> str:
    """The PIN, without the newline at its end.

    Raises:
        KmsError(HSM_UNAVAILABLE): no such file, empty, or readable by everybody.
    """
    try:
        if config.pin_file.stat().st_mode & 0o004:
            raise unavailable(f"everybody can read the PIN file {config.pin_file}: chmod 600 it")
        with config.pin_file.open("rb") as file:
            pin = file.read(MAX_PIN_FILE).decode("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise unavailable(f"cannot read the PIN file {config.pin_file} ({type(error).__name__})") from error
    if not pin:
        raise unavailable(f"the PIN file {config.pin_file} is empty")
    return pin


def find_token(module: Module, label: str) -> Any:
    """The one token with this label.

    Raises:
        KmsError(HSM_UNAVAILABLE): none, several, or the module does not answer; lists the labels seen.
    """
    tokens = _tokens(module)
    named = [token for token in tokens if token.label == label]
    if len(named) != 1:
        seen = ", ".join(sorted(repr(token.label) for token in tokens if token.label)) or "none"
        raise unavailable(f"{len(named)} tokens have the label {label!r}; labels seen: {seen}")
    return named[0]


def _tokens(module: Module) -> list[Any]:
    try:
        slots = module.library.get_slots(token_present=True)
    except p11.PKCS11Error as error:
        raise unavailable(f"the PKCS#11 module lists no tokens ({type(error).__name__})") from error
    tokens: list[Any] = []
    failure: p11.PKCS11Error | None = None
    for slot in slots:
        try:
            tokens.append(slot.get_token())
        except p11.PKCS11Error as error:  # one that is leaving must not hide the others
            failure = error
    if failure is not None and not tokens:
        raise unavailable(f"the PKCS#11 module lists no tokens ({type(failure).__name__})") from failure
    return tokens


def _log_in(token: Any, pin: str) -> Any:
    try:
        return token.open(rw=True, user_pin=pin, attribute_mapper=attribute_mapper())
    except p11.UserAlreadyLoggedIn:
        # A far side (p11-kit) may keep the login that C_Finalize should have ended. What follows tests it.
        return token.open(rw=True, attribute_mapper=attribute_mapper())


def connect(module: Module, config: HsmConfig, known: bytes) -> Connection:
    """Find the token and log in, once. The module is initialised and nothing is open.

    `known` is what the sentinel answered before, if it was seen.

    Raises:
        KmsError(HSM_UNAVAILABLE)
    """
    token = find_token(module, config.token_label)
    pin = read_pin(config)
    tried = f"{config.module}\0{config.token_label}\0{pin}".encode()
    fingerprint = hashlib.blake2b(tried, key=_PROCESS_KEY, person=b"refused pin").digest()
    if fingerprint in _refused:
        raise unavailable(
            f"the token refused the PIN in {config.pin_file} before: it is not sent again; mend the file"
        )
    if token.flags & (TokenFlag.USER_PIN_LOCKED | TokenFlag.USER_PIN_FINAL_TRY):
        raise unavailable(
            f"the PIN of the token {config.token_label!r} is locked, or one wrong attempt away from it: log in "
            "once with the vendor's tool"
        )
    try:
        templates.omit(config.token_label, config.omit)
        first = _log_in(token, pin)
        connection = Connection(module, token, first, rsa_seal=config.seal is Seal.RSA_OAEP)
        connection.exclude(config.exclude)
        connection.find_sentinel(first, known)
    except failures.PIN_REFUSED as error:
        _refused.add(fingerprint)
        raise unavailable(
            f"the token refused the PIN in {config.pin_file} ({type(error).__name__}): mend the file; this PIN is "
            "not sent again"
        ) from error
    except p11.PKCS11Error as error:
        raise unavailable(f"cannot open a session with the token ({type(error).__name__})") from error
    return connection
