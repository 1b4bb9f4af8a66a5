"""Rows of the SSH CA. Keys begin with the mount's id, so that mounts share nothing."""

from __future__ import annotations

from kms.tables import Reader, Table
from pki.ssh.model import SshCertificate, SshIssuer, SshMount, SshOtp, SshRevocation, SshRole

_DOMAIN = "ssh"

MOUNTS = Table(tag="ssh.mount", name="ssh_mounts", model=SshMount, cached=True, digest=_DOMAIN)  # key: mount
ROLES = Table(tag="ssh.role", name="ssh_roles", model=SshRole, cached=True, digest=_DOMAIN)  # mount/name
ISSUERS = Table(
    tag="ssh.issuer", name="ssh_issuers", model=SshIssuer, cached=True, digest=_DOMAIN
)  # mount/id
CERTIFICATES = Table(
    tag="ssh.certificate", name="ssh_certificates", model=SshCertificate, index=("mount_id", "valid_before")
)  # mount/serial
REVOCATIONS = Table(
    tag="ssh.revocation",
    name="ssh_revocations",
    model=SshRevocation,
    index=("mount_id", "valid_before"),
    digest=_DOMAIN,
)  # mount/by/hash of issuer and value
OTPS = Table(tag="ssh.otp", name="ssh_otps", model=SshOtp, index=("mount_id", "expires_at"), digest=_DOMAIN)
"""Key: mount/SHA-256 of the password."""

TABLES = (MOUNTS, ROLES, ISSUERS, REVOCATIONS, OTPS)
"""Those whose state digests the sweep compares."""


def mount_config(reader: Reader, mount_id: str) -> SshMount:
    """The settings of a mount; the defaults where nothing was ever set."""
    row = reader.get(MOUNTS, mount_id)
    return row.value if row is not None else SshMount()


def issuers(reader: Reader, mount_id: str) -> list[SshIssuer]:
    """All CAs of a mount."""
    return [row.value for row in reader.scan(ISSUERS, f"{mount_id}/")]
