"""What the token opens in one process: the keyring, and with it the sealed rows."""

from __future__ import annotations

from collections.abc import Mapping

from kms.audit import Recorder
from kms.keys.keyring import Keyring, open_ending, open_keyring, open_term
from kms.sensitive import Sensitive
from kms.storage import RowSealer, SqliteStore
from kms.system.instance import read_instance
from kms.system.token import TokenHolder


class Opening:
    """Opens, renews and closes the keyring of this process.

    Args:
        instance_id: every term is bound to it.
        store: unlocked and locked here.
        token: used only between `open` and `close`.
        recorder: hashes with a key of the newest term.
    """

    def __init__(self, instance_id: str, store: SqliteStore, token: TokenHolder, recorder: Recorder) -> None:
        self._instance_id = instance_id
        self._store = store
        self._token = token
        self._recorder = recorder

    def open(self, instance_id: str) -> None:
        """Let the token be used, and open all terms. Raises KmsError: the HSM is away, or opens none."""
        self._token.allow()
        keyring = open_keyring(self._token.get(), instance_id, self._store.reader())
        self.unlock(instance_id, keyring.keys, keyring.ended)
        self._recorder.renew_key()

    def close(self) -> None:
        """Forget the terms and the token."""
        self._store.lock()
        self._token.forbid()

    def unlock(self, instance_id: str, terms: Mapping[int, Sensitive], ended: int = 0) -> None:
        """Rows sealed under `terms` can be read from here on; later ones are opened when they are met."""

        def load(term: int) -> Sensitive | None:
            return open_term(self._token.get(), instance_id, self._store.reader(), term)

        self._store.unlock(RowSealer(instance_id, terms, load, ended))

    def renew(self) -> None:
        """Take up terms that another process made, and forget those that have ended."""
        sealer, reader, hsm = self._store.sealer(), self._store.reader(), self._token.get()
        while (key := open_term(hsm, self._instance_id, reader, sealer.term + 1)) is not None:
            self.adopt(sealer.term + 1, key)
        if (ended := open_ending(hsm, self._instance_id, reader, sealer.ended)) > sealer.ended:
            self._store.end_terms(ended)

    def adopt(self, term: int, key: Sensitive) -> None:
        """Seal under `term` from here on."""
        self._store.sealer().adopt(term, key)
        self._recorder.renew_key()

    def keyring(self) -> Keyring:
        """All terms, opened anew."""
        return open_keyring(self._token.get(), self._instance_id, self._store.reader())

    def custodians(self) -> tuple[str, bytes]:
        """The instance, and the public key that recovery seals to (empty without custodians)."""
        row = read_instance(self._store.reader())
        return self._instance_id, row.value.recovery_public if row is not None else b""
