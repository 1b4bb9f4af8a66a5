"""Audit devices: each request and each answer, in the form of Vault's audit log, to files, syslog, sockets or HTTP.

They are for collectors and search tools that know this form; the evidence is `kms.audit`, which has its own. While
at least one device is enabled, a request that none of them can take is not served. Where they write is the operator's
choice: no API names a folder, a host or a socket that the configuration does not allow (CVE-2025-6000). Nothing here
decides, and no other log is written here.
"""

from kms.devices.broker import Devices, Witnesses
from kms.devices.model import AUDIT_DEVICES, AuditDevice

__all__ = ["AUDIT_DEVICES", "AuditDevice", "Devices", "Witnesses"]
