"""Rekey: new shares for the custodians, by a quorum of the old ones.

With `require_verification` the new shares count only once a quorum of them was given back; until then
the old ones do, so shares that were lost in handing out lock nobody out. Under the recovery choice
`quorum` every keyring term is sealed to the new secret in the same commit.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kms.errors import invalid
from kms.ids import new_uuid
from kms.keys.keyring import TERMS, Keyring
from kms.keys.recovery import public_half, to_custodians
from kms.operation import Call, Change, Result
from kms.sensitive import ACCESS, Sensitive
from kms.system.instance import INSTANCE, Instance, check_custody, read_instance, replace_custody
from kms.system.quorum import Attempt, Attempts, Slots, add_share
from kms.system.shamir import combine, split
from kms.tables import Store, Transaction


@dataclass(frozen=True)
class _Install:
    """What the final commit writes."""

    secret: Sensitive
    shares: int
    threshold: int
    public: bytes
    recovery: dict[int, bytes]
    endings: dict[int, int]


class Rekeying:
    """Handlers of sys/rekey, sys/rekey-recovery-key and sys/rotate/{root,recovery}: one thing, four spellings.

    Args:
        keyring: opens every keyring term through the HSM.
        announce: tells every process that the instance row changed.
    """

    def __init__(
        self,
        store: Store,
        slots: Slots,
        keyring: Callable[[], Keyring],
        announce: Callable[[], None],
    ) -> None:
        self._store = store
        self._attempts = Attempts(slots, "rekey", "rekey")
        self._keyring = keyring
        self._announce = announce

    def status(self, _call: Call) -> Result:
        return Result(self._status(self._attempts.current()))

    def public_status(self, _call: Call) -> Result:
        """Without the nonce, which is all it takes to spend shares and to cancel."""
        return Result(self._status(self._attempts.current()) | {"nonce": ""})

    def start(self, call: Call) -> Result:
        args = call.args
        if args.get("pgp_keys") or args.get("backup"):
            raise invalid("pgp_keys and backup are not supported; hand the shares out from the answer")
        shares, threshold = int(args["secret_shares"] or 0), int(args["secret_threshold"] or 0)
        split(b"", shares, threshold)  # refuse impossible numbers before anybody gives a share
        attempt = Attempt(
            new_shares=shares, new_threshold=threshold, verify=bool(args.get("require_verification"))
        )
        started = self._attempts.start(attempt)
        return Result(self._status(started), subject={"nonce": started.nonce, "shares": shares})

    def cancel(self, _call: Call) -> Result:
        self._attempts.cancel()
        return Result()

    def cancel_by_nonce(self, call: Call) -> Result:
        """Without a token, only who knows the nonce may cancel: else anybody could block a rescue."""
        self._attempts.cancel_by_nonce(str(call.args.get("nonce") or ""))
        return Result()

    def update(self, call: Call) -> Result | Change:
        """Take one old share; with enough of them, make the new ones."""
        instance = self._instance()
        with self._attempts.change(str(call.args["nonce"] or "")) as attempt:
            if attempt.secret:
                raise invalid("the new shares are made already; verify them, or cancel")
            add_share(attempt.shares, str(call.args["key"] or ""))
            shares = list(attempt.shares)
            if len(shares) >= instance.threshold:
                attempt.shares.clear()
        if len(shares) < instance.threshold:
            return Result(self._status(attempt), subject={"progress": len(shares)})
        check_custody(self._store.reader(), Sensitive(combine(shares[: instance.threshold])))
        secret = Sensitive(X25519PrivateKey.generate().private_bytes_raw())
        made = split(secret.reveal(ACCESS), attempt.new_shares, attempt.new_threshold)
        answer = self._made(attempt, made)
        if attempt.verify:
            with self._attempts.change(attempt.nonce) as pending:
                pending.secret = secret.reveal(ACCESS)
                pending.verify_nonce = new_uuid()
                answer |= {"verification_nonce": pending.verify_nonce}
            return Result(answer, subject={"nonce": attempt.nonce, "verified": 0})
        return self._install(attempt, secret, answer)

    def verify_status(self, _call: Call) -> Result:
        return Result(self._verify_status(self._attempts.current()))

    def public_verify_status(self, _call: Call) -> Result:
        """Without the nonce."""
        return Result(self._verify_status(self._attempts.current()) | {"nonce": ""})

    def verify_restart_by_nonce(self, call: Call) -> Result:
        """Without a token, only who was told the nonce, as for `cancel_by_nonce`."""
        self._attempts.demand(str(call.args.get("nonce") or ""), verifying=True)
        return self.verify_restart(call)

    def verify_restart(self, _call: Call) -> Result:
        """Forget the shares given for verification so far; the new shares stay."""
        attempt = self._attempts.current()
        if attempt is None or not attempt.secret:
            raise invalid("no rekey verification in progress")
        with self._attempts.change(attempt.nonce) as pending:
            pending.verify_shares.clear()
            pending.verify_nonce = new_uuid()
        return Result(self._verify_status(self._attempts.current()))

    def verify(self, call: Call) -> Result | Change:
        """Take one new share back; with enough of them, the new shares count."""
        with self._attempts.change(str(call.args["nonce"] or ""), verifying=True) as attempt:
            add_share(attempt.verify_shares, str(call.args["key"] or ""))
            shares = list(attempt.verify_shares)
            if len(shares) >= attempt.new_threshold:
                attempt.verify_shares.clear()
        if len(shares) < attempt.new_threshold:
            return Result(self._verify_status(attempt), subject={"progress": len(shares)})
        secret = Sensitive(attempt.secret)
        if not secret.matches(combine(shares[: attempt.new_threshold])):
            raise invalid(
                "rekey verification failed: these are not the new shares; start the verification again"
            )
        return self._install(attempt, secret, {"nonce": attempt.verify_nonce, "complete": True})

    def _install(self, attempt: Attempt, secret: Sensitive, answer: dict[str, Any]) -> Change:
        instance = self._instance()
        public = public_half(secret) if instance.recovery == "quorum" else b""
        keyring = self._keyring() if public else Keyring({}, {})
        new = _Install(
            secret=secret,
            shares=attempt.new_shares,
            threshold=attempt.new_threshold,
            public=public,
            recovery={
                term: to_custodians(public, instance.id, term, key, keyring.endings[term])
                for term, key in keyring.keys.items()
            },
            endings=keyring.endings,
        )

        def write(tx: Transaction) -> Result:
            _write(tx, new)
            return Result(answer, subject={"nonce": attempt.nonce, "shares": new.shares, "verified": 1})

        def after() -> None:
            self._attempts.cancel()
            self._announce()

        return Change(write, after)

    def _instance(self) -> Instance:
        row = read_instance(self._store.reader())
        if row is None:
            raise invalid("the server is not initialized")
        return row.value

    def _status(self, attempt: Attempt | None) -> dict[str, Any]:
        return {
            "nonce": attempt.nonce if attempt is not None else "",
            "started": attempt is not None,
            "t": attempt.new_threshold if attempt is not None else 0,
            "n": attempt.new_shares if attempt is not None else 0,
            "progress": len(attempt.shares) if attempt is not None else 0,
            "required": self._instance().threshold,
            "pgp_fingerprints": None,
            "backup": False,
            "verification_required": attempt.verify if attempt is not None else False,
            **(
                {"verification_nonce": attempt.verify_nonce} if attempt is not None and attempt.secret else {}
            ),
        }

    def _verify_status(self, attempt: Attempt | None) -> dict[str, Any]:
        if attempt is None or not attempt.secret:
            raise invalid("no rekey verification in progress")
        return {
            "nonce": attempt.verify_nonce,
            "started": True,
            "t": attempt.new_threshold,
            "n": attempt.new_shares,
            "progress": len(attempt.verify_shares),
        }

    @staticmethod
    def _made(attempt: Attempt, shares: list[bytes]) -> dict[str, Any]:
        return {
            "nonce": attempt.nonce,
            "complete": True,
            "keys": [share.hex() for share in shares],
            "keys_base64": [base64.b64encode(share).decode() for share in shares],
            "pgp_fingerprints": None,
            "backup": False,
            "verification_required": attempt.verify,
        }


def _write(tx: Transaction, new: _Install) -> None:
    row = read_instance(tx)
    if row is None:
        raise invalid("the server is not initialized")
    if new.public:
        rows = tx.scan(TERMS)
        if {term.value.term: term.value.ended for term in rows} != new.endings:
            raise invalid("the keyring was rotated at the same time; give the shares again")
        for term in rows:
            recovery = new.recovery[term.value.term]
            tx.replace(TERMS, term, msgspec.structs.replace(term.value, recovery=recovery))
    numbers = {"shares": new.shares, "threshold": new.threshold, "recovery_public": new.public}
    tx.replace(INSTANCE, row, msgspec.structs.replace(row.value, **numbers))
    replace_custody(tx, new.secret)
