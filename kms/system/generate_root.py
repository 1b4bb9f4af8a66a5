"""A new root token by a quorum of custodians, handed over XORed with a one-time password.

Whoever starts the attempt gets the OTP; the custodian who gives the last share gets the encoded token.
Neither alone has the token.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from kms.errors import invalid
from kms.ids import base62
from kms.operation import Call, Change, Result
from kms.sensitive import Sensitive
from kms.system.instance import check_custody, read_instance
from kms.system.quorum import Attempt, Attempts, Slots, add_share
from kms.system.shamir import combine
from kms.tables import Reader, Store, Transaction

TOKEN_LENGTH = 28  # "hvs." and 24 characters


class RootGeneration:
    """Handlers of sys/generate-root and its kin.

    Args:
        root_token: creates a root token in the given transaction and returns it.
    """

    def __init__(self, store: Store, slots: Slots, root_token: Callable[[Transaction, str], str]) -> None:
        self._store = store
        self._attempts = Attempts(slots, "generate-root", "root generation")
        self._root_token = root_token

    def status(self, _call: Call) -> Result:
        return Result(self._status(self._attempts.current()))

    def public_status(self, _call: Call) -> Result:
        """Without the nonce, which is all it takes to spend shares and to cancel."""
        return Result(self._status(self._attempts.current()) | {"nonce": ""})

    def start(self, call: Call) -> Result:
        if call.args.get("pgp_key"):
            raise invalid("pgp_key is not supported; leave it out and use the otp of the answer")
        otp = str(call.args.get("otp") or "") or base62(TOKEN_LENGTH)
        if len(otp) != TOKEN_LENGTH:
            raise invalid(f"OTP string is wrong length: it must have {TOKEN_LENGTH} characters")
        attempt = self._attempts.start(Attempt(otp=otp))
        return Result(self._status(attempt) | {"otp": otp}, subject={"nonce": attempt.nonce})

    def cancel(self, _call: Call) -> Result:
        self._attempts.cancel()
        return Result()

    def cancel_by_nonce(self, call: Call) -> Result:
        """Without a token, only who knows the nonce may cancel: else anybody could block a rescue."""
        self._attempts.cancel_by_nonce(str(call.args.get("nonce") or ""))
        return Result()

    def update(self, call: Call) -> Result | Change:
        """Take one share; with enough of them, make the token."""
        required = _threshold(self._store.reader())
        with self._attempts.change(str(call.args["nonce"] or "")) as attempt:
            add_share(attempt.shares, str(call.args["key"] or ""))
            shares = list(attempt.shares)
            if len(shares) >= required:
                # Right or wrong, these shares are spent: a wrong one among them must be given anew.
                attempt.shares.clear()
        if len(shares) < required:
            return Result(self._status(attempt), subject={"progress": len(shares)})
        check_custody(self._store.reader(), Sensitive(combine(shares[:required])))

        def write(tx: Transaction) -> Result:
            token = self._root_token(tx, "")
            encoded = _xor(token, attempt.otp)
            done = self._status(attempt) | {
                "progress": required,
                "complete": True,
                "encoded_token": encoded,
                "encoded_root_token": encoded,
            }
            return Result(done, subject={"nonce": attempt.nonce})

        return Change(write, after=self._attempts.cancel)

    def decode(self, call: Call) -> Result:
        """sys/decode-token: undo the XOR, for clients without a tool of their own."""
        encoded, otp = str(call.args["encoded_token"] or ""), str(call.args["otp"] or "")
        if not encoded or not otp:
            raise invalid("missing encoded_token or otp")
        try:
            raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except ValueError:
            raise invalid("encoded_token is not base64") from None
        if len(raw) != len(otp.encode()):
            raise invalid("encoded_token and otp have different lengths")
        token = bytes(a ^ b for a, b in zip(raw, otp.encode(), strict=True))
        return Result({"token": token.decode("ascii", "replace")})

    def _status(self, attempt: Attempt | None) -> dict[str, Any]:
        return {
            "nonce": attempt.nonce if attempt is not None else "",
            "started": attempt is not None,
            "progress": len(attempt.shares) if attempt is not None else 0,
            "required": _threshold(self._store.reader()),
            "complete": False,
            "encoded_token": "",
            "encoded_root_token": "",
            "pgp_fingerprint": "",
            "otp": "",
            "otp_length": TOKEN_LENGTH,
        }


def _threshold(reader: Reader) -> int:
    row = read_instance(reader)
    return row.value.threshold if row is not None else 0


def _xor(token: str, otp: str) -> str:
    mixed = bytes(a ^ b for a, b in zip(token.encode(), otp.encode(), strict=True))
    return base64.b64encode(mixed).decode().rstrip("=")
