"""Every sealed table is known to what seals all rows again after a theft of the keyring."""

from __future__ import annotations

import sys

from kms.app.rows import SEALED
from kms.tables import Table


def test_no_sealed_table_is_forgotten() -> None:
    """Its rows would stay under a term that is to be ended, and keep it from ending."""
    modules = [module for name, module in sorted(sys.modules.items()) if name.startswith(("kms.", "pki."))]
    declared = {
        table.name: table.sealed
        for module in modules
        for table in vars(module).values()
        if isinstance(table, Table)
    }
    assert len(declared) > 20
    assert {name for name, sealed in declared.items() if sealed} == {table.name for table in SEALED}
