"""Routes of custodians and of the keyring below sys/."""

from __future__ import annotations

from kms.http.vault.route import Route


def _root_generation(path: str, name: str) -> tuple[Route, ...]:
    raw = name == "sys.generate_root"
    return (
        Route("GET", f"{path}/attempt", f"{name}.status", raw=raw),
        Route("POST", f"{path}/attempt", f"{name}.start", raw=raw),
        Route("DELETE", f"{path}/attempt", f"{name}.cancel"),
        Route("POST", f"{path}/update", f"{name}.update", raw=raw),
    )


def _rekey(path: str, name: str) -> tuple[Route, ...]:
    raw = name == "sys.rekey"
    return (
        Route("GET", f"{path}/init", f"{name}.status", raw=raw),
        Route("POST", f"{path}/init", f"{name}.start", raw=raw),
        Route("DELETE", f"{path}/init", f"{name}.cancel"),
        Route("POST", f"{path}/update", f"{name}.update", raw=raw),
        Route("GET", f"{path}/verify", f"{name}.verify_status", raw=raw),
        Route("POST", f"{path}/verify", f"{name}.verify", raw=raw),
        Route("DELETE", f"{path}/verify", f"{name}.verify_restart", raw=raw),
    )


ROUTES: tuple[Route, ...] = (
    *_root_generation("generate-root", "sys.generate_root"),
    *_root_generation("generate-root-token", "sys.generate_root_token"),
    Route("POST", "decode-token", "sys.decode_token"),
    *_rekey("rekey", "sys.rekey"),
    *_rekey("rekey-recovery-key", "sys.rekey"),
    *_rekey("rotate/root", "sys.rotate_shares"),
    *_rekey("rotate/recovery", "sys.rotate_shares"),
    *(
        Route(verb, f"{path}backup", f"sys.shares.backup.{name}")
        for path in ("rekey/", "rekey/recovery-key-", "rotate/root/", "rotate/recovery/")
        for verb, name in (("GET", "read"), ("DELETE", "delete"))
    ),
    Route("POST", "rotate/root", "sys.root.rotate"),
    Route("POST", "rotate", "sys.keyring.rotate"),
    Route("POST", "rotate/keyring", "sys.keyring.rotate"),
    Route("GET", "key-status", "sys.keyring.status", inject=True),
    Route("GET", "rotate/config", "sys.keyring.settings", inject=True),
    Route("POST", "rotate/config", "sys.keyring.configure"),
    Route("GET", "rotate/keyring/config", "sys.keyring.settings"),
    Route("POST", "rotate/keyring/config", "sys.keyring.configure"),
)
