"""Loading a PKCS#11 module so that threads and forks are safe.

python-pkcs11 calls C_Initialize(NULL), which tells the module that no two threads will ever call at once,
and then drops the GIL around every call: SoftHSM then crashes the process within seconds (H1). So after
loading, the module is finalised and initialised again with CKF_OS_LOCKING_OK, through the same shared
object's function list. The function list is used, not the symbols, because a module such as pkcs11-spy.so
exports nothing but C_GetFunctionList. A module that refuses the flag is used by one caller at a time.
"""

from __future__ import annotations

import _ctypes
import ctypes
import mmap
import os
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pkcs11
from pkcs11.exceptions import PKCS11Error

from kms.errors import ErrorKind, KmsError

CKR_OK = 0x0
CKR_OBJECT_HANDLE_INVALID = 0x82
CKR_CRYPTOKI_NOT_INITIALIZED = 0x190
_CKF_OS_LOCKING_OK = 0x2

# Places in CK_FUNCTION_LIST (PKCS#11 2.40, pkcs11f.h), after the version.
_C_INITIALIZE, _C_FINALIZE, _C_INIT_TOKEN, _C_DESTROY_OBJECT = 0, 1, 9, 22


class _InitArgs(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS: no callbacks, the operating system's own mutexes."""

    _fields_ = (
        ("create_mutex", ctypes.c_void_p),
        ("destroy_mutex", ctypes.c_void_p),
        ("lock_mutex", ctypes.c_void_p),
        ("unlock_mutex", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_void_p),
    )


_KEPT: list[object] = []  # callbacks that a module's function list points to, for ever


def _replace_initialize(table: Any, function: Any) -> None:
    """Put a function of ours into C_Initialize's place; lists may lie in memory that is read-only.

    A second load of the module finds ours there, so only the first one's counts; both do the same.
    """
    place = ctypes.addressof(table.contents) + _C_INITIALIZE * ctypes.sizeof(ctypes.c_void_p)
    page = place - place % mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(page), mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE) != 0:
        raise unavailable(
            "the PKCS#11 module's function list cannot be changed, so hsm.init_args cannot be given"
        )
    _KEPT.append(function)
    table[_C_INITIALIZE] = ctypes.cast(function, ctypes.c_void_p).value


def unavailable(detail: str) -> KmsError:
    """The HSM cannot serve now."""
    return KmsError(ErrorKind.HSM_UNAVAILABLE, detail)


def _after_fork_in_child() -> None:
    Module._guard = threading.Lock()  # noqa: SLF001  # a thread of the parent may have held it
    Module._starting = threading.RLock()  # noqa: SLF001  # the same


os.register_at_fork(after_in_child=_after_fork_in_child)


class Module:
    """One loaded PKCS#11 module, initialised for this process. At most one user per process.

    The login state and C_Finalize belong to the process, so two users of one module would pull the rug
    from under each other; the second is refused.
    """

    _users: ClassVar[weakref.WeakValueDictionary[Path, Module]] = weakref.WeakValueDictionary()
    _guard: ClassVar[threading.Lock] = threading.Lock()
    # Between setting the environment and C_Initialize no other module may set its own.
    _starting: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, path: Path, variables: Mapping[str, str], init_args: str = "") -> None:
        """Load and initialise.

        Raises:
            KmsError(HSM_UNAVAILABLE): not a PKCS#11 module, refuses to start, or is in use here.
        """
        self.path = path
        self.os_locking = False
        self._variables = dict(variables)
        self._reserved = ctypes.create_string_buffer(init_args.encode()) if init_args else None
        self.pid = os.getpid()
        with Module._guard:
            user = Module._users.get(path)
            if user is not None and user.pid == self.pid:
                raise unavailable(f"{path} is already open in this process; share one Hsm, it is thread safe")
            with Module._starting:
                self._set_environment()
                self._load()
            Module._users[path] = self

    def _set_environment(self) -> None:
        """Modules read theirs at each C_Initialize."""
        os.environ.update(self._variables)

    def _load(self) -> None:
        table = self._function_list()
        one = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)
        self._initialize = one(table[_C_INITIALIZE] or 0)
        self._finalize = one(table[_C_FINALIZE] or 0)
        self._destroy = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)(
            table[_C_DESTROY_OBJECT] or 0
        )
        self._init_token = ctypes.CFUNCTYPE(
            ctypes.c_ulong, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p
        )(table[_C_INIT_TOKEN] or 0)
        if self._reserved is not None:
            _replace_initialize(table, one(self._initialize_instead))
        try:
            self.library: Any = pkcs11.lib(str(self.path))
        except (PKCS11Error, RuntimeError) as error:
            raise unavailable(
                f"cannot load the PKCS#11 module {self.path} ({type(error).__name__}): check hsm.module, and for SoftHSM "
                "that SOFTHSM2_CONF names a readable file"
            ) from error
        self.restart()

    def _initialize_instead(self, _arguments: object) -> int:
        """What python-pkcs11 calls in place of C_Initialize(NULL), for a module that wants its string."""
        return self._start(_CKF_OS_LOCKING_OK)

    def _start(self, flags: int) -> int:
        arguments = _InitArgs(flags=flags)
        if self._reserved is not None:
            arguments.reserved = ctypes.addressof(self._reserved)
        return int(self._initialize(ctypes.addressof(arguments)))

    def _function_list(self) -> Any:
        try:
            self._shared = ctypes.CDLL(str(self.path))
        except OSError as error:
            raise unavailable(
                f"cannot load the PKCS#11 module {self.path} ({error}): check hsm.module"
            ) from error
        if not hasattr(self._shared, "C_GetFunctionList"):
            raise unavailable(f"cannot load {self.path}: it is no PKCS#11 module, as it has no function list")
        functions = ctypes.c_void_p()
        if self._shared.C_GetFunctionList(ctypes.byref(functions)) != CKR_OK or functions.value is None:
            raise unavailable(f"cannot load {self.path}: it is no PKCS#11 module, as it has no function list")
        # CK_FUNCTION_LIST begins with a two-byte version, padded to the size of a pointer.
        return ctypes.cast(functions.value + ctypes.sizeof(ctypes.c_void_p), ctypes.POINTER(ctypes.c_void_p))

    def restart(self) -> None:
        """Finalise and initialise. All sessions and handles are void afterwards; no call may be in flight.

        In a forked child the module reports "not initialised" (library.reset_on_fork, H2), which is as
        good as a successful finalise.
        """
        result = self._finalize(None)
        if result not in (CKR_OK, CKR_CRYPTOKI_NOT_INITIALIZED):
            raise unavailable(f"the PKCS#11 module {self.path} does not finalise (CKR 0x{result:x})")
        with Module._starting:
            self._set_environment()
            result = self._initialise()
        if result != CKR_OK:
            hint = (
                "" if self._reserved is not None else "; some modules want their parameters in hsm.init_args"
            )
            raise unavailable(f"the PKCS#11 module {self.path} does not start (CKR 0x{result:x}){hint}")

    def _initialise(self) -> int:
        result = self._start(_CKF_OS_LOCKING_OK)
        self.os_locking = result == CKR_OK
        if not self.os_locking:
            result = int(self._initialize(None)) if self._reserved is None else self._start(0)
        return result

    def reload(self) -> None:
        """Give the shared object back and load it anew, for modules whose finalise keeps a dead connection.

        No call may be in flight, and nothing made before may be used.
        """
        pkcs11.unload(str(self.path))
        _ctypes.dlclose(self._shared._handle)  # noqa: SLF001  # ctypes holds the object too, and has no call for this
        self._load()

    def destroy_object(self, session_handle: int, object_handle: int) -> bool:
        """C_DestroyObject in any session; False when the token refused.

        python-pkcs11 destroys only through the session that made the object, which another thread may
        be using at that moment.
        """
        return int(self._destroy(session_handle, object_handle)) in (CKR_OK, CKR_OBJECT_HANDLE_INVALID)

    def init_token(self, slot: int, officer_pin: bytes, label: str) -> int:
        """C_InitToken: wipes what is in the slot. The result code; only newtoken.py calls this."""
        padded = label.encode().ljust(32)
        return int(self._init_token(slot, officer_pin, len(officer_pin), padded))

    def close(self) -> None:
        """Finalise. Idempotent, harmless in a forked child."""
        with Module._guard:
            if Module._users.get(self.path) is self and self.pid == os.getpid():
                del Module._users[self.path]
                self._finalize(None)
