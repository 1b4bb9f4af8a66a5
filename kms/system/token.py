"""This process's way to the HSM: opened on first use, closed by a seal, opened again after trouble."""

from __future__ import annotations

import threading
from collections.abc import Callable

from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm


class TokenHolder:
    """Holds at most one `Hsm`.

    Args:
        open_hsm: opens and logs in; raises KmsError(HSM_UNAVAILABLE).
    """

    def __init__(self, open_hsm: Callable[[], Hsm]) -> None:
        self._open = open_hsm
        self._lock = threading.Lock()
        self._hsm: Hsm | None = None
        self._allowed = True

    def get(self) -> Hsm:
        """The open HSM.

        Raises:
            KmsError(SEALED): the server is sealed; the HSM must not be touched.
            KmsError(HSM_UNAVAILABLE): it does not answer.
        """
        hsm = self._hsm
        if hsm is not None:
            return hsm
        with self._lock:
            if not self._allowed:
                raise KmsError(ErrorKind.SEALED, "Vault is sealed")
            if self._hsm is None:
                self._hsm = self._open()
            return self._hsm

    def allow(self) -> None:
        """The server may use the HSM (again)."""
        with self._lock:
            self._allowed = True

    def forbid(self) -> None:
        """Log out and refuse until `allow`: the server was sealed."""
        with self._lock:
            self._allowed = False
            hsm, self._hsm = self._hsm, None
        if hsm is not None:
            hsm.close()

    def close(self) -> None:
        """Log out; the process ends."""
        self.forbid()
