"""Vendor profiles: parsed strictly, honest about what was tried, and overruled by what the operator says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kms.config import HsmSection, parse
from kms.errors import ErrorKind, KmsError
from kms.hsm import KeySpec, Purpose, Seal, profiles
from kms.hsm.profiles import configured
from kms.ids import new_cka_id
from tests.hsm.parts import opened, private_token

GOOD = """
title = "A token"
tried = "no"
modules = ["/opt/a.so", "/opt/b.so"]
"""
WRONG = {
    "an unknown key": GOOD + 'seel = "rsa-oaep"',
    "an unknown seal": GOOD + 'seal = "aes-cbc"',
    "a guard that is never given up": GOOD + 'omit = ["sensitive"]',
    "a mechanism by another name": GOOD + 'exclude = ["AES_GCM"]',
    "a relative path": GOOD.replace("/opt/a.so", "a.so"),
    "no word on whether it was tried": GOOD.replace('tried = "no"', ""),
    "another word on it": GOOD.replace('"no"', '"surely"'),
    "no TOML": "title",
}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of profiles of the test's own."""
    monkeypatch.setattr(profiles, "folder", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_profile_refuses_to_start(shelf: Path, name: str) -> None:
    (shelf / "bad.toml").write_text(WRONG[name])
    with pytest.raises(KmsError) as caught:
        profiles.read("bad")
    assert caught.value.kind is ErrorKind.INVALID
    assert "bad.toml" in caught.value.detail


def test_an_unknown_profile_is_named_with_those_that_there_are() -> None:
    with pytest.raises(KmsError, match='"lunna" does not exist; there are cloudhsm, luna, nshield'):
        profiles.read("lunna")
    with pytest.raises(KmsError, match="does not exist"):
        profiles.read("../softhsm")


@pytest.mark.parametrize("name", profiles.names())
def test_every_profile_is_whole(name: str) -> None:
    profile = profiles.read(name)
    assert profile.title
    assert profile.notes
    assert profile.modules
    # Nobody has such hardware here; a profile that claims to be tried needs a test that did it.
    hardware = {"luna", "cloudhsm", "yubihsm2", "nshield"}
    assert profile.tried == ("no" if name in hardware else "software token")
    if "CKM_AES_GCM" in profile.exclude:
        assert profile.seal is Seal.RSA_OAEP


def test_what_the_section_says_itself_wins(shelf: Path) -> None:
    module = shelf / "second.so"
    module.touch()
    (shelf / "mine.toml").write_text(
        f'title = "x"\ntried = "no"\nmodules = ["/nowhere/first.so", "{module}"]\nseal = "rsa-oaep"\n'
        'omit = ["local"]\nexclude = ["CKM_AES_GCM"]\nenvironment = { A = "1", B = "2" }\n'
    )
    section = HsmSection(profile="mine", token_label="t", pin_file=Path("/pin"))
    config = configured(section)
    assert (config.module, config.seal, config.omit) == (module, Seal.RSA_OAEP, ("local",))
    assert config.variables == {"A": "1", "B": "2"}
    assert config.exclude == ("CKM_AES_GCM",)
    own = HsmSection(
        profile="mine",
        module=Path("/own.so"),
        token_label="t",
        pin_file=Path("/pin"),
        seal="aes-gcm",
        environment={"B": "3"},
    )
    config = configured(own)
    assert (config.module, config.seal) == (Path("/own.so"), Seal.AES_GCM)
    assert config.variables == {"A": "1", "B": "3"}


def test_a_module_that_is_not_installed_is_named(shelf: Path) -> None:
    (shelf / "mine.toml").write_text(GOOD)
    with pytest.raises(KmsError, match=r"none of /opt/a\.so, /opt/b\.so"):
        configured(HsmSection(profile="mine", token_label="t", pin_file=Path("/pin")))


SERVER = """
recovery = "none"
[data]
storage = "/s"
audit = "/a"
[hsm]
token_label = "t"
pin_file = "/p"
"""


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ("", "needs a module, or a profile"),
        ('module = "/m.so"\nseal = "cbc"', "Invalid enum value 'cbc'"),
        ('module = "/m.so"\nomit = ["extractable"]', "Invalid enum value 'extractable'"),
        ('module = "/m.so"\nenvironment = { "a b" = "x" }', "matching regex"),
        ('module = "/m.so"\nprofil = "luna"', "unknown field"),
    ],
)
def test_a_wrong_section_refuses_to_start(more: str, text: str) -> None:
    with pytest.raises(KmsError, match=text):
        parse((SERVER + more).encode(), "keystead.toml")


def test_an_excluded_mechanism_is_refused_by_name(tmp_path: Path) -> None:
    """An HSM that makes its own IVs: its AES-GCM is not used, whatever it lists."""
    config = private_token(tmp_path)
    quirky = replace(config, seal=Seal.RSA_OAEP, exclude=("CKM_AES_GCM", "CKM_AES_KEY_WRAP_PAD"))
    with opened(quirky) as hsm:
        with pytest.raises(KmsError, match="CKM_AES_GCM"):
            hsm.generate(Purpose.KEY_ENC, KeySpec.AES_256, new_cka_id(), "refused")
        assert not hsm.can_wrap(KeySpec.HMAC)
        assert hsm.root_form(Purpose.ROOT_SEAL, KeySpec.AES_256).purpose is Purpose.ROOT_SEAL_RSA
        assert hsm.root_form(Purpose.ROOT_WRAP_ENC, KeySpec.AES_256).lacks
    with opened(replace(config, exclude=("CKM_AES_GCM",))) as hsm, pytest.raises(KmsError, match="rsa-oaep"):
        hsm.root_form(Purpose.ROOT_SEAL, KeySpec.AES_256)
