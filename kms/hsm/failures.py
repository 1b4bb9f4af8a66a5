"""What a PKCS#11 error means. The only place that decides whether the token is lost.

Only a lost token leads to a new initialisation and login. A module's error code alone does not tell:
SoftHSM answers GeneralError both to a wrong GCM tag and to a token that has gone (H3), and a caller who
sends bad data must not be able to reset the HSM for everybody. So errors that always mean loss are LOST,
errors about the request are named, and for the rest the caller asks the sentinel key.
"""

from __future__ import annotations

from typing import Final

from pkcs11 import exceptions as p11
from pkcs11.mechanisms import Mechanism

from kms.errors import ErrorKind, KmsError, integrity, invalid


class TokenLostError(Exception):
    """The token does not answer to its sentinel, or said itself that it has gone."""


class NotBegunError(TokenLostError):
    """The connection was given up before this call had a session: nothing was sent to the token."""


class DoubtfulError(TokenLostError):
    """A search found what cannot be. True only if a new connection finds it too.

    SoftHSM keeps what it read of its folder in memory. When one thread stores a key while another reads the
    folder anew, because a second process stored something, that memory can be wrong from then on, until the
    module is initialised again: a key is there twice, or not at all.
    """

    def __init__(self, cka_id: bytes) -> None:
        super().__init__(cka_id.hex())
        self.cka_id = cka_id

    def confirmed(self) -> KmsError:
        """What it is when a new connection finds the same."""
        return integrity(f"the HSM contradicts itself about CKA_ID {self.cka_id.hex()}")


class UnseenError(DoubtfulError):
    """A search found no key where there must be one, and the token is alive."""

    def confirmed(self) -> KmsError:
        return integrity(f"the HSM answers, but holds no key with CKA_ID {self.cka_id.hex()}")


class SeenTwiceError(DoubtfulError):
    """A search found two keys with one id."""

    def confirmed(self) -> KmsError:
        """What it is when a new connection sees two as well."""
        return integrity(f"the HSM holds more than one key with CKA_ID {self.cka_id.hex()}")


class AbsentError(Exception):
    """A search found nothing. Whether that is true is only known after the sentinel answered."""


LOST: Final = (
    p11.DeviceError,
    p11.DeviceRemoved,
    p11.TokenNotPresent,
    p11.TokenNotRecognised,
    p11.SessionClosed,
    p11.SessionHandleInvalid,
    p11.SlotIDInvalid,
    p11.UserNotLoggedIn,
    p11.OperationActive,  # the session is out of step; nothing less than a new one mends it
)
_BAD_DATA: Final = (
    p11.DataInvalid,
    p11.DataLenRange,
    p11.EncryptedDataInvalid,
    p11.EncryptedDataLenRange,
    p11.SignatureInvalid,
    p11.SignatureLenRange,
)
_BAD_BLOB: Final = (p11.WrappedKeyInvalid, p11.WrappedKeyLenRange)
_UNSUPPORTED: Final = (
    p11.MechanismInvalid,
    p11.MechanismParamInvalid,
    p11.FunctionNotSupported,
    p11.KeySizeRange,
    p11.DomainParamsInvalid,
    p11.KeyNotWrappable,
)
_FULL: Final = (p11.DeviceMemory, p11.HostMemory, p11.SessionCount)
_CERTAIN: Final = _BAD_DATA + _BAD_BLOB + _UNSUPPORTED + _FULL

PIN_REFUSED: Final = (
    p11.PinIncorrect,
    p11.PinInvalid,
    p11.PinLenRange,
    p11.PinLocked,
    p11.PinExpired,
    p11.UserPinNotInitialized,
)


# Codes for which python-pkcs11 has no class.
_UNMAPPED: Final = {
    "0x1b": "ActionProhibited",
    "0x68": "KeyFunctionNotPermitted",
    "0x190": "CryptokiNotInitialized",
}


def name_of(error: p11.PKCS11Error) -> str:
    """The PKCS#11 name of an error, or its number."""
    if type(error) is not p11.PKCS11Error:
        return type(error).__name__
    code = str(error).rpartition(" ")[2]
    return _UNMAPPED.get(code, f"CKR {code}")


def needs_sentinel(error: p11.PKCS11Error) -> bool:
    """True if the error may or may not mean that the token is lost."""
    return not isinstance(error, LOST + _CERTAIN)


def is_unsupported(error: p11.PKCS11Error) -> bool:
    """True if the error speaks of what the token can do, not of the data."""
    return isinstance(error, _UNSUPPORTED)


def ckm(mechanism: Mechanism) -> str:
    """The mechanism's name in the PKCS#11 standard."""
    name = getattr(mechanism, "name", "")  # tokens list numbers that have none
    return f"CKM_{name}" if name else f"0x{int(mechanism):x}"


def lacking(what: str) -> KmsError:
    """The token cannot do it: a fault of the request, as another protection or type would do."""
    return invalid(f"the HSM has no {what}; `keystead doctor` lists what it can")


def translate(error: p11.PKCS11Error, needs: Mechanism | None = None) -> KmsError:
    """The refusal for an error of a token that is there. Names the PKCS#11 error and mechanism, never the data."""
    name = name_of(error)
    if isinstance(error, _BAD_DATA):
        return KmsError(ErrorKind.INVALID, f"the HSM refused the data ({name})")
    if isinstance(error, _BAD_BLOB):
        return KmsError(ErrorKind.INTEGRITY, f"a wrapped key does not open under its wrapping key ({name})")
    if is_unsupported(error):
        return lacking(f"{ckm(needs) if needs else 'mechanism'} that does this ({name})")
    if isinstance(error, _FULL):
        return KmsError(ErrorKind.HSM_UNAVAILABLE, f"the HSM is out of space or sessions ({name})")
    return KmsError(ErrorKind.INTERNAL, f"the HSM failed the call ({name})")
