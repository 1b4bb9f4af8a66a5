"""Reading a configuration file, and refusing what could not be meant."""

from __future__ import annotations

import ipaddress
import tomllib
from pathlib import Path

import msgspec

from kms.config.addresses import is_loopback, split_address
from kms.config.devices import check_networks
from kms.config.model import Config, ProxyConfig
from kms.config.sections import check_sections
from kms.errors import KmsError, invalid

MAX_CONFIG_BYTES = 64 * 1024


def load(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        KmsError(INVALID): a sentence with the file, the key and what to do.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise invalid(f"cannot read the configuration {path}: {error.strerror}") from None
    return parse(text, str(path))


def parse(text: bytes, name: str) -> Config:
    """`load` for bytes; `name` stands in the messages."""
    if len(text) > MAX_CONFIG_BYTES:
        raise invalid(f"{name} is larger than {MAX_CONFIG_BYTES} bytes; is it really a configuration?")
    try:
        tree = tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise invalid(f"{name} is not TOML: {error}") from None
    try:
        config = msgspec.convert(tree, Config, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise invalid(f"{name}: {_explained(str(error))}") from None
    _check(config, name)
    return config


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        if not value.startswith("/"):
            raise ValueError(f'expected an absolute path, not "{value}"')
        return Path(value)
    raise ValueError(f"expected {kind.__name__}")


def _explained(text: str) -> str:
    """The message of msgspec with the key in TOML's spelling and a hint."""
    message, _, place = text.partition(" - at ")
    place = place.strip("`").removeprefix("$").removeprefix(".")
    where = f" in [{place}]" if place and "unknown field" in message else f" ({place})" if place else ""
    hint = ""
    if "unknown field" in message:
        hint = "; unknown keys refuse to start, see hsm-config/OPERATING.md for the list"
    elif "missing required field" in message and "recovery" in message:
        hint = '; choose "none", "hsm-backup" or "quorum": it cannot be changed after init'
    return f"{message}{where}{hint}"


def _check(config: Config, name: str) -> None:
    documents = [config.documents.listen] if config.documents is not None else []
    for address in (config.listen, *documents):
        try:
            split_address(address)
        except KmsError as error:
            raise invalid(f"{name}: {error.detail}") from None
    if config.listen in documents:
        raise invalid(f"{name}: [documents] needs an address of its own")
    if not is_loopback(config.listen) and config.tls is None:
        raise invalid(
            f"{name}: listen {config.listen} can be reached from outside, so [tls] with certificate and "
            "key is required; listen on 127.0.0.1 to do without"
        )
    _check_tokens(config, name)
    if config.proxy is not None:
        _check_networks(config.proxy, name)
    check_sections(config.acme, config.approvals, name)
    check_networks(config.audit_devices.networks, f"{name}: audit_devices.networks")
    if config.data.storage == config.data.audit:
        raise invalid(f"{name}: data.storage and data.audit must be different folders")


def _check_networks(proxy: ProxyConfig, name: str) -> None:
    if not proxy.trusted:
        raise invalid(f"{name}: proxy.trusted is empty; leave [proxy] out when no proxy is trusted")
    for text in proxy.trusted:
        try:
            network = ipaddress.ip_network(text)
        except ValueError:
            raise invalid(f'{name}: proxy.trusted: "{text}" is not a network like 10.1.2.0/24') from None
        if network.prefixlen == 0:
            raise invalid(f"{name}: proxy.trusted: {text} would believe everybody; name the proxies")


def _check_tokens(config: Config, name: str) -> None:
    for section in config.hsm.tokens:
        if section.module is None and not section.profile:
            raise invalid(f"{name}: [hsm] needs a module, or a profile that knows where it is")
        if (section.deadline_seconds or 0) >= config.limits.request_seconds:
            raise invalid(f"{name}: hsm.deadline_seconds must be less than limits.request_seconds")
    titles = [section.title for section in config.hsm.tokens]
    if len(set(titles)) != len(titles):
        raise invalid(f"{name}: two tokens have one name; give one of them another with hsm.others.name")
    if sum(other.relation == "own-keys" for other in config.hsm.others) > 1:
        raise invalid(f"{name}: at most two tokens may have keys of their own; any number may be copies")
