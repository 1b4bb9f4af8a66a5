"""One-time passwords for hosts whose sshd asks this server (the peer's `otp` key type).

A password is 122 random bits, kept as its SHA-256, good once and for a bounded time.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass

import msgspec

from kms.errors import invalid, not_found
from kms.ids import new_uuid
from kms.operation import Call, Change, Result
from kms.tables import Store, Transaction
from pki.ssh.authorities import SshAuthorities
from pki.ssh.model import SshOtp, SshRole
from pki.ssh.roles import OTP, SshRoles
from pki.ssh.store import MOUNTS, OTPS, ROLES, mount_config
from pki.store import put

LIFE_SECONDS = 3600  # enough to type it; the mount's default lease may make it shorter
MAX_LIFE_SECONDS = 86_400
_ECHO, _ECHOED = "verify-echo-request", "verify-echo-response"  # how a host's helper asks whether we are here
_EXPIRED_AT_ONCE = 1000

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class SshPasswords:
    """One per process."""

    store: Store
    roles: SshRoles
    authorities: SshAuthorities

    def create(self, call: Call) -> Change:
        """A password for one user on one host."""
        name, text = str(call.args["role"]), str(call.args["ip"])
        if not text:
            raise invalid("Missing ip")
        role = self.roles.get(call.mount.id, name)
        if role is None:
            raise invalid(f'Role "{name}" not found')
        username = _username(role, str(call.args["username"]))
        address = _address(text)
        if name not in self.authorities.config(call.mount.id).zeroaddress:
            _check_address(role, address)
        if role.key_type != OTP:
            raise invalid("key type unknown")
        life = min(call.mount.default_lease_ttl or LIFE_SECONDS, MAX_LIFE_SECONDS)
        password = new_uuid()
        otp = SshOtp(
            mount_id=call.mount.id,
            role=name,
            username=username,
            ip=str(address),
            expires_at=int(call.now) + life,
        )

        def write(tx: Transaction) -> Result:
            _forget(tx, call.mount.id, int(call.now))
            tx.insert(OTPS, _key(call.mount.id, password), otp)
            data = {
                "key": password,
                "key_type": OTP,
                "username": username,
                "ip": otp.ip,
                "port": role.port,
            }
            return Result(data=data, subject={"role": name})

        return Change(write)

    def verify(self, call: Call) -> Change | Result:
        """Whose password it is; it is used up by that."""
        given = str(call.args["otp"])
        if given == _ECHO:
            return Result(data={"message": _ECHOED})
        key = _key(call.mount.id, given)
        if self.store.reader().get(OTPS, key) is None:
            raise invalid("OTP not found")

        def write(tx: Transaction) -> Result:
            row = tx.get(OTPS, key)
            if row is None or row.value.expires_at <= call.now:
                raise invalid("OTP not found")
            tx.delete(OTPS, row)
            otp = row.value
            data = {"username": otp.username, "ip": otp.ip, "role_name": otp.role}
            return Result(data=data, subject={"role": otp.role})

        return Change(write)

    def lookup(self, call: Call) -> Result:
        """The roles that give passwords for an address."""
        text = str(call.args["ip"])
        if not text:
            raise invalid("Missing ip")
        address = _address(text)
        rows = self.store.reader().scan(ROLES, f"{call.mount.id}/")
        found = [row.key.partition("/")[2] for row in rows if _contains(row.value.cidr_list, address)]
        found += self.authorities.config(call.mount.id).zeroaddress
        return Result(data={"roles": found or None})

    # -- config/zeroaddress --------------------------------------------------------------------------

    def zeroaddress_read(self, call: Call) -> Result:
        """Roles that are good for any address."""
        names = self.authorities.config(call.mount.id).zeroaddress
        if not names:
            raise not_found()
        return Result(data={"roles": list(names)})

    def zeroaddress_write(self, call: Call) -> Change:
        """Replace the list."""
        names = tuple(call.args["roles"])
        if not names:
            raise invalid("Missing roles")
        for name in names:
            if self.roles.get(call.mount.id, name) is None:
                raise invalid(f'Role "{name}" does not exist')
        return self._zeroaddress(call, names)

    def zeroaddress_delete(self, call: Call) -> Change:
        """Idempotent."""
        return self._zeroaddress(call, ())

    def _zeroaddress(self, call: Call, names: tuple[str, ...]) -> Change:
        def write(tx: Transaction) -> Result:
            changed = msgspec.structs.replace(mount_config(tx, call.mount.id), zeroaddress=names)
            put(tx, MOUNTS, call.mount.id, changed)
            return Result()

        return Change(write)


def _key(mount_id: str, password: str) -> str:
    return f"{mount_id}/{hashlib.sha256(password.encode()).hexdigest()}"


def _forget(tx: Transaction, mount_id: str, now: int) -> None:
    """Passwords that nobody used in time."""
    for row in tx.find(OTPS, {"mount_id": mount_id}, below=("expires_at", now), limit=_EXPIRED_AT_ONCE):
        tx.delete(OTPS, row)


def _username(role: SshRole, asked: str) -> str:
    name = asked or role.default_user
    if not name:
        raise invalid("No default username registered. Use 'username' option")
    if name == role.default_user:
        return name
    if not role.allowed_users:
        raise invalid("Username has to be either in allowed users list or has to be a default username")
    if role.allowed_users != "*" and name not in [part.strip() for part in role.allowed_users.split(",")]:
        raise invalid("Username is not present is allowed users list")
    return name


def _address(text: str) -> Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise invalid(f'Invalid IP "{text[:64]}"') from None


def _check_address(role: SshRole, address: Address) -> None:
    if not _contains(role.cidr_list, address) or _contains(role.exclude_cidr_list, address):
        raise invalid("Error validating IP: IP does not belong to role")


def _contains(networks: str, address: Address) -> bool:
    return any(
        address in ipaddress.ip_network(part.strip(), strict=False)
        for part in networks.split(",")
        if part.strip()
    )
