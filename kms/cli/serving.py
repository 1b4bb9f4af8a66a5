"""dev, init and serve: the commands that start processes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kms import __version__
from kms.cli.loading import loading
from kms.clock import SystemClock
from kms.config import (
    AcmeSection,
    Config,
    DataConfig,
    HsmSection,
    check_files,
    check_private,
    is_loopback,
    load,
    render,
)
from kms.config.devices import AuditDevicesConfig
from kms.errors import invalid
from kms.server import ServerApp, Supervisor, hardening, lock, run_offline
from kms.shared import Shared
from kms.system.choices import EXPLAINED

CONFIG_NAME = "keystead.toml"
MAX_TOKEN_CHARACTERS = 256

_path = click.Path(path_type=Path)


@click.command()
@click.option(
    "--listen", default="127.0.0.1:8200", show_default=True, help="Address of the API; loopback only."
)
@click.option(
    "--data-dir", type=_path, required=True, help="Folder for token/, storage/ and audit/; made if missing."
)
@click.option(
    "--root-token", help="Root token to create at the first start. It shows in `ps`; prefer the file."
)
@click.option("--root-token-file", type=_path, help="File (mode 0600) whose first line is that root token.")
@click.option("--no-init", is_flag=True, help="Serve uninitialised, so that sys/init can be called.")
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Worker processes.")
@click.option(
    "--acme-network",
    "acme_networks",
    multiple=True,
    help="Network in which ACME challenges may be fetched, such as 127.0.0.0/8; may be repeated.",
)
@click.option(
    "--acme-http-port", type=click.IntRange(1, 65535), default=80, show_default=True, help="Port of http-01."
)
@click.option(
    "--acme-tls-port",
    type=click.IntRange(1, 65535),
    default=443,
    show_default=True,
    help="Port of tls-alpn-01.",
)
def dev(
    *,
    listen: str,
    data_dir: Path,
    root_token: str | None,
    root_token_file: Path | None,
    no_init: bool,
    workers: int,
    acme_networks: tuple[str, ...],
    acme_http_port: int,
    acme_tls_port: int,
) -> None:
    """Make a SoftHSM token, initialise and serve, until interrupted.

    A second start on the same folder carries on with the same keys.
    """
    if not is_loopback(listen):
        raise invalid("keystead dev listens on loopback only; for others use keystead serve, which has [tls]")
    token = _chosen_token(root_token, root_token_file)
    folder = data_dir.absolute()
    lock.make_private(folder)
    acme = AcmeSection(
        networks=acme_networks or AcmeSection().networks, http_port=acme_http_port, tls_port=acme_tls_port
    )
    config = _dev_config(folder, listen, workers, acme)
    address = config.url

    def work(app: ServerApp) -> dict[str, Any]:
        return _ensure_initialised(app, token, allowed=not no_init)

    def report(value: Any) -> None:
        for line in _dev_lines(config, folder, value):
            click.echo(line)

    supervisor = Supervisor(config, _builder(), SystemClock(), ready=lambda: click.echo(f"ready: {address}"))
    sys.exit(supervisor.run(work, report))


@click.command()
@click.option("--config", "path", type=_path, required=True, help="Configuration file (TOML).")
@click.option(
    "--shares", type=click.IntRange(1, 255), default=5, show_default=True, help="Custodians' shares."
)
@click.option("--threshold", type=click.IntRange(1, 255), default=3, show_default=True, help="Shares needed.")
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True)
def init(path: Path, shares: int, threshold: int, style: str) -> None:
    """Create the root keys in the HSM; print the custodians' shares and the first root token, once."""
    config = load(path.absolute())
    check_files(config)
    hardening.harden()
    for folder in (config.data.storage, config.data.audit):
        lock.make_private(folder)
    clock = SystemClock()
    lock.hold(config.data.storage, clock)

    def work(app: ServerApp) -> dict[str, Any]:
        from kms.cli.local import Local  # noqa: PLC0415  (the child alone needs the door)

        body = {"recovery_shares": shares, "recovery_threshold": threshold}
        return Local(app).demand("POST", "sys/init", body)

    answer = run_offline(config, Shared(), _builder(), clock, work)
    if style == "json":
        click.echo(json.dumps(answer | {"recovery": config.recovery}))
        return
    for number, share in enumerate(answer.get("recovery_keys_base64", []), 1):
        click.echo(f"share {number}: {share}")
    click.echo(f"root token: {answer['root_token']}")
    click.echo(
        f"the shares are not stored anywhere; {threshold} of {shares} lift a seal or make a root token"
    )
    click.echo(f"recovery {EXPLAINED[config.recovery]}")


@click.command()
@click.option("--config", "path", type=_path, required=True, help="Configuration file (TOML).")
def serve(path: Path) -> None:
    """Serve until SIGTERM or SIGINT. SIGHUP reads the TLS files again without dropping a request."""
    config = load(path.absolute())
    ready = f"ready: {config.url}"
    sys.exit(Supervisor(config, _builder(), SystemClock(), ready=lambda: click.echo(ready)).run())


def _builder() -> Callable[..., Any]:
    with loading():
        from kms.app import build  # noqa: PLC0415  (loads every part; help and status need none)

    return build


def _chosen_token(given: str | None, file: Path | None) -> str:
    if given is not None and file is not None:
        raise invalid("give --root-token or --root-token-file, not both")
    if file is not None:
        check_private(file, "--root-token-file")
        lines = file.read_text("utf-8").splitlines()
        given = lines[0].strip() if lines else ""
    if given is None:
        return ""
    if not given or len(given) > MAX_TOKEN_CHARACTERS or not (given.isascii() and given.isprintable()):
        raise invalid(f"a root token is 1 to {MAX_TOKEN_CHARACTERS} printable ASCII characters")
    if " " in given:
        raise invalid("a root token has no spaces")
    return given


def _dev_config(folder: Path, listen: str, workers: int, acme: AcmeSection) -> Config:
    from kms.hsm import softhsm_token  # noqa: PLC0415  (help needs no HSM library)

    token = softhsm_token(folder / "token")
    config = Config(
        listen=listen,
        workers=workers,
        recovery="quorum",
        data=DataConfig(storage=folder / "storage", audit=folder / "audit"),
        hsm=HsmSection(
            module=token.module,
            token_label=token.token_label,
            pin_file=token.pin_file,
            softhsm2_conf=token.softhsm2_conf,
        ),
        acme=acme,
        audit_devices=AuditDevicesConfig(folders=(folder / "devices",), networks=("127.0.0.0/8", "::1/128")),
    )
    lock.make_private(folder / "devices")
    # Written for `keystead doctor --data-dir` and as an example; dev itself goes by its options.
    path = folder / CONFIG_NAME
    path.touch(mode=0o600)
    path.write_text(render(config), "utf-8")
    return load(path)


def _ensure_initialised(app: ServerApp, token: str, *, allowed: bool) -> dict[str, Any]:
    """The start process's work: the answer of init, or what is known of a folder that has been used."""
    from kms.cli.local import Local  # noqa: PLC0415  (the child alone needs the door)

    local = Local(app)
    if not local.demand("GET", "sys/init")["initialized"]:
        if not allowed:
            return {"initialized": False}
        # The door hands the credential of this one operation to init as the token to create.
        made = local.demand("POST", "sys/init", {"secret_shares": 1, "secret_threshold": 1}, token)
        return {"initialized": True, **made}
    if token and local.call("GET", "auth/token/lookup-self", token=token)[0] == 403:
        raise invalid(
            "this folder was initialised with another root token; leave the option out, or use a new --data-dir"
        )
    return {"initialized": True, "root_token": token}


def _dev_lines(config: Config, folder: Path, value: dict[str, Any]) -> list[str]:
    lines = [
        f"keystead {__version__} on {config.url} ({config.workers} workers)",
        f"data in {folder}: token/ storage/ audit/ {CONFIG_NAME}",
    ]
    token = value.get("root_token", "")
    if not value["initialized"]:
        lines.append("not initialised: call sys/init (bao operator init)")
    else:
        lines.append(f"root token: {token or 'as printed at the first start'}")
    lines += [f"custodian share: {share}" for share in value.get("keys_base64", [])]
    lines += [f"export BAO_ADDR={config.url}", f"export VAULT_ADDR={config.url}"]
    if token:
        lines += [f"export BAO_TOKEN={token}", f"export VAULT_TOKEN={token}"]
    return lines
