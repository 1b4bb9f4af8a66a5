"""The configuration: what refuses to start, and with which sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from kms.config import Config, check_files, load, parse, render, split_address
from kms.errors import KmsError

GOOD = """
listen = "127.0.0.1:8200"
workers = 3
recovery = "quorum"
[data]
storage = "/s"
audit = "/a"
[hsm]
module = "/m.so"
token_label = "t"
pin_file = "/p"
"""


def _without(key: str) -> str:
    return "\n".join(line for line in GOOD.splitlines() if not line.startswith(key))


REFUSED = {
    "unknown key": (GOOD.replace("workers", "wrokers"), ["wrokers", "unknown keys refuse to start"]),
    "unknown key in a section": (GOOD.replace("token_label", "label"), ["label"]),
    "unknown section": (GOOD + "[debug]\nunsafe = true\n", ["debug"]),
    "a PIN in the file": (GOOD + 'pin = "1234"\n', ["pin", "[hsm]"]),
    "recovery not chosen": (_without("recovery"), ["recovery", "cannot be changed after init"]),
    "recovery misspelt": (GOOD.replace("quorum", "qourum"), ["recovery"]),
    "no workers": (GOOD.replace("workers = 3", "workers = 0"), ["workers"]),
    "workers in words": (GOOD.replace("workers = 3", 'workers = "3"'), ["workers"]),
    "relative path": (GOOD.replace('"/s"', '"s"'), ["absolute", "storage"]),
    "no module": (_without("module"), ["module"]),
    "open to the world without TLS": (GOOD.replace("127.0.0.1", "0.0.0.0"), ["[tls]", "127.0.0.1"]),
    "IPv6 world without TLS": (GOOD.replace("127.0.0.1", "[::]"), ["[tls]"]),
    "a name to listen on": (GOOD.replace("127.0.0.1", "localhost"), ["IP address"]),
    "no port": (GOOD.replace(":8200", ""), ["listen"]),
    "port 0": (GOOD.replace(":8200", ":0"), ["listen"]),
    "port too high": (GOOD.replace(":8200", ":70000"), ["listen"]),
    "one folder for two": (GOOD.replace('"/a"', '"/s"'), ["different folders"]),
    "half of TLS": (GOOD + '[tls]\ncertificate = "/c"\n', ["key"]),
    "documents on the API's address": (
        GOOD + '[documents]\nlisten = "127.0.0.1:8200"\n',
        ["[documents]", "of its own"],
    ),
    "documents nowhere": (GOOD + '[documents]\nlisten = "x"\n', ["listen"]),
    "not TOML": ("listen 127", ["is not TOML"]),
    "not text": ("\udcff", ["is not TOML"]),
    "too large": (GOOD + "#" * 70_000, ["larger"]),
    "empty": ("", ["recovery"]),
    "limit of 0": (GOOD + "[limits]\nconnections = 0\n", ["connections"]),
}


@pytest.mark.parametrize(("text", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(text: str, words: list[str]) -> None:
    with pytest.raises(KmsError) as refusal:
        parse(text.encode("utf-8", "surrogateescape"), "/etc/keystead.toml")
    assert all(word in refusal.value.detail for word in ["/etc/keystead.toml", *words])


def test_good() -> None:
    config = parse(GOOD.encode(), "x")
    assert (config.workers, config.address, config.url) == (3, ("127.0.0.1", 8200), "http://127.0.0.1:8200")
    assert config.limits.connections == 1000


@pytest.mark.parametrize("tls", [False, True])
def test_rendered_and_read_again(tls: bool) -> None:
    text = GOOD.replace('"/m.so"', r'"/weird \" \\ path"')
    if tls:
        text += '[tls]\ncertificate = "/c"\nkey = "/k"\n'
    config = parse(text.encode(), "x")
    assert parse(render(config).encode(), "x") == config


@pytest.mark.parametrize(
    ("listen", "address"), [("[::1]:1", ("::1", 1)), ("127.0.0.1:65535", ("127.0.0.1", 65535))]
)
def test_addresses(listen: str, address: tuple[str, int]) -> None:
    assert split_address(listen) == address


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(KmsError, match="cannot read the configuration"):
        load(tmp_path / "nosuch")


def _on_disk(folder: Path) -> Config:
    for name in ("m", "p", "k", "c"):
        (folder / name).write_text("x")
        (folder / name).chmod(0o600)
    text = GOOD.replace('"/m.so"', f'"{folder}/m"').replace('"/p"', f'"{folder}/p"')
    return parse(f'{text}[tls]\ncertificate = "{folder}/c"\nkey = "{folder}/k"\n'.encode(), "x")


def test_files(tmp_path: Path) -> None:
    check_files(_on_disk(tmp_path))


@pytest.mark.parametrize(
    ("name", "key"), [("m", "hsm.module"), ("p", "hsm.pin_file"), ("k", "tls.key"), ("c", "tls.certificate")]
)
def test_missing_files(tmp_path: Path, name: str, key: str) -> None:
    config = _on_disk(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(KmsError, match=key):
        check_files(config)


@pytest.mark.parametrize(("name", "mode"), [("p", 0o640), ("p", 0o604), ("k", 0o644), ("k", 0o660)])
def test_secrets_that_others_can_read(tmp_path: Path, name: str, mode: int) -> None:
    config = _on_disk(tmp_path)
    (tmp_path / name).chmod(mode)
    with pytest.raises(KmsError, match="chmod 600"):
        check_files(config)


def test_every_key_is_in_the_documentation() -> None:
    import kms.config  # noqa: PLC0415  (its docstring is the documentation)

    text = kms.config.__doc__ or ""
    for struct in (
        kms.config.Config,
        kms.config.DataConfig,
        kms.config.HsmSection,
        kms.config.TlsConfig,
        kms.config.LimitsConfig,
    ):
        for name in struct.__struct_fields__:
            assert f"{name} = " in text or f"{name}]" in text, name
