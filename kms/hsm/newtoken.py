"""Initialise one token: `python -m kms.hsm.newtoken MODULE LABEL PIN_FILE`, run by token.py.

C_InitToken by ctypes, as python-pkcs11 has no call for it, then C_InitPIN. The PIN comes from a file, the
security officer's is made here and forgotten with the process.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

from pkcs11 import exceptions as p11

from kms.errors import KmsError
from kms.hsm.module import CKR_OK, Module, unavailable


def initialise(module: Module, label: str, pin: str) -> None:
    """Put a token into the module's free slot.

    Raises:
        KmsError(HSM_UNAVAILABLE)
    """
    slots = module.library.get_slots()
    officer = secrets.token_urlsafe(24)
    if not slots:
        raise unavailable("the module has no slot")
    result = module.init_token(slots[-1].slot_id, officer.encode(), label)
    if result != CKR_OK:
        raise unavailable(f"C_InitToken failed (CKR 0x{result:x})")
    module.restart()  # SoftHSM gives the new token another slot number
    try:
        session = module.library.get_token(token_label=label).open(rw=True, so_pin=officer)
        session.init_pin(pin)
        session.close()
    except p11.PKCS11Error as error:
        raise unavailable(f"C_InitPIN failed ({type(error).__name__})") from error


def main(arguments: list[str]) -> int:
    """Entry point; 0 when the token is ready."""
    path, label, pin_file = arguments
    try:
        module = Module(Path(path), {})
        initialise(module, label, Path(pin_file).read_text("utf-8").strip())
        module.close()
    except KmsError as error:
        sys.stderr.write(f"{error.detail}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
