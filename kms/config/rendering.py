"""A configuration as the text of its file."""

from __future__ import annotations

import msgspec

from kms.config.devices import devices_lines
from kms.config.model import Config, HsmSection
from kms.config.sections import AcmeSection


def render(config: Config) -> str:
    """The TOML text of a configuration, as `keystead dev` writes it."""
    lines = [
        f"listen = {_quoted(config.listen)}",
        f"workers = {config.workers}",
        f"recovery = {_quoted(config.recovery)}",
        "",
        "[data]",
        f"storage = {_quoted(config.data.storage)}",
        f"audit = {_quoted(config.data.audit)}",
        "",
        "[hsm]",
        *_hsm_choices(config.hsm),
        f"token_label = {_quoted(config.hsm.token_label)}",
        f"pin_file = {_quoted(config.hsm.pin_file)}",
    ]
    if config.hsm.softhsm2_conf is not None:
        lines.append(f"softhsm2_conf = {_quoted(config.hsm.softhsm2_conf)}")
    if config.tls is not None:
        lines += ["", "[tls]"]
        lines += [f"certificate = {_quoted(config.tls.certificate)}", f"key = {_quoted(config.tls.key)}"]
    if config.pki.blocklist is not None:
        lines += ["", "[pki]", f"blocklist = {_quoted(config.pki.blocklist)}"]
    if config.acme != AcmeSection():
        networks = msgspec.json.encode(config.acme.networks).decode()
        lines += ["", "[acme]", f"networks = {networks}"]
        lines += [f"http_port = {config.acme.http_port}", f"tls_port = {config.acme.tls_port}"]
    return "\n".join(lines + devices_lines(config.audit_devices)) + "\n"


def _hsm_choices(section: HsmSection) -> list[str]:
    """The lines of [hsm] that may be absent."""
    lines = [
        f"{name} = {_quoted(value)}"
        for name in ("profile", "module", "seal", "init_args")
        if (value := getattr(section, name))
    ]
    if section.omit:
        lines.append(f"omit = {msgspec.json.encode(section.omit).decode()}")
    if section.environment:
        pairs = ", ".join(f"{name} = {_quoted(value)}" for name, value in section.environment.items())
        lines.append(f"environment = {{ {pairs} }}")
    return lines


def _quoted(value: object) -> str:
    return msgspec.json.encode(str(value)).decode()  # a JSON string is a TOML basic string
