"""The database: rows sealed before they reach the driver, one writer at a time, durable at commit.

Promises: a transaction is on disk (WAL, synchronous=FULL) when its context manager exits; a row that
was flipped, swapped, moved or given other index columns is refused when read (KmsError INTEGRITY);
every write to a cached table is announced to all processes with the commit itself.
Never: decides anything, knows a domain, or talks to the HSM; the keys that seal rows are handed in
with `unlock`. Used by: every domain, through the port in kms.tables; only kms.app (and the tools
that prepare a folder) import this package. The only importer of SQL drivers.
"""

from kms.storage.migrate import prepare
from kms.storage.sealing import RowSealer, derive
from kms.storage.sqlite import FILE_NAME
from kms.storage.store import SqliteStore
from kms.storage.sweep import Finding, sweep

__all__ = ["FILE_NAME", "Finding", "RowSealer", "SqliteStore", "derive", "prepare", "sweep"]
