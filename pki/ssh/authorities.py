"""The CAs of a mount, found by reference."""

from __future__ import annotations

from dataclasses import dataclass

from kms.errors import ErrorKind, KmsError, invalid
from kms.tables import Cache, Store
from pki.authority import resident
from pki.hsmkey import CaToken
from pki.model import CaKey, KeyState
from pki.ssh.model import DEFAULT, SshIssuer, SshMount
from pki.ssh.signers import HsmSigner, Signer, SoftwareSigner
from pki.ssh.store import ISSUERS, MOUNTS, issuers
from pki.ssh.wire import PublicKey, parse_public_key
from pki.store import KEYS

NO_DEFAULT = "no default issuer currently configured"


@dataclass(frozen=True)
class SshAuthority:
    """One CA that can sign. `key` is its key in the HSM, None for an imported one."""

    issuer: SshIssuer
    public: PublicKey
    key: CaKey | None

    def signer(self, token: CaToken, algorithm: str, only: bytes) -> Signer:
        """For one document."""
        if self.key is None:
            return SoftwareSigner(self.issuer.private, algorithm)
        return HsmSigner(token, resident(self.key), self.public, algorithm, only)


class SshAuthorities:
    """One per process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._mounts: Cache[SshMount] = Cache(store, MOUNTS)
        self._issuers: Cache[SshIssuer] = Cache(store, ISSUERS)
        self._keys: Cache[CaKey] = Cache(store, KEYS)

    def config(self, mount_id: str) -> SshMount:
        """The mount's settings, defaults included."""
        row = self._mounts.get(mount_id)
        return row.value if row is not None else SshMount()

    def issuer(self, mount_id: str, ref: str) -> SshIssuer:
        """The CA that `ref` (id, name or "default") means.

        Raises:
            KmsError(INVALID): none.
        """
        if ref.lower() == DEFAULT:
            ref = self.config(mount_id).default_issuer
            if not ref:
                raise invalid(NO_DEFAULT)
        row = self._issuers.get(f"{mount_id}/{ref}")
        if row is not None:
            return row.value
        for issuer in issuers(self._store.reader(), mount_id):
            if issuer.name and issuer.name == ref:
                return issuer
        raise invalid(f"unable to find issuer for reference: {ref}")

    def get(self, mount_id: str, ref: str) -> SshAuthority:
        """A CA with its key.

        Raises:
            KmsError(INVALID): none, or its key is gone.
        """
        issuer = self.issuer(mount_id, ref)
        public = parse_public_key(issuer.public_key)
        if not issuer.key_id:
            return SshAuthority(issuer, public, None)
        row = self._keys.get(f"{mount_id}/{issuer.key_id}")
        if row is not None and row.value.state == KeyState.LOST:
            raise invalid(
                f"the private key of issuer {ref} was lost with the HSM that it lived in: make a new issuer"
            )
        if row is None or row.value.state != KeyState.ACTIVE:
            raise KmsError(ErrorKind.INVALID, f"issuer {ref} has no private key here: it cannot sign")
        return SshAuthority(issuer, public, row.value)
