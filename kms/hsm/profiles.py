"""Vendor profiles: what Keystead has to know about a module beyond its path. The files are in hsm-config/profiles.

A profile gives defaults; whatever the [hsm] section says itself wins. Files are parsed strictly: an unknown key or
value refuses to start, as a misspelt quirk would be a silent one.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

import msgspec

from kms.config import TokenSection
from kms.errors import invalid
from kms.hsm.model import RESIDENT_LIMIT, HsmConfig, Seal
from kms.hsm.token import config_folder

MAX_PROFILE_BYTES = 64 * 1024
Guard = Literal["copyable", "local"]
Tried = Literal["hardware", "software token", "no"]


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One vendor's module.

    Args:
        title: vendor and product.
        modules: where its installer puts the library; the first that exists is taken.
        tried: whether Keystead ever ran on the real thing.
        seal: the mechanism for new seal roots.
        omit: guards that its objects do not know.
        exclude: mechanisms that it lists and that are not used, by their CKM_ names: AES-GCM of an HSM that insists
            on IVs of its own.
        environment: variables that the module needs, and their usual values.
        init_args: see HsmConfig.
        deadline_seconds: see HsmConfig; for what is reached over a network.
        resident_limit: how many objects it holds, by the vendor's word; 0 is not known.
        notes: what an operator has to know; for people.
    """

    title: str
    modules: tuple[Path, ...]
    tried: Tried
    seal: Seal = Seal.AES_GCM
    omit: tuple[Guard, ...] = ()
    exclude: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    init_args: str = ""
    deadline_seconds: int = 0
    resident_limit: int = 0
    notes: str = ""


def folder() -> Path:
    """Where the profiles are."""
    return config_folder() / "profiles"


def names() -> list[str]:
    """The profiles that there are."""
    return sorted(path.stem for path in folder().glob("*.toml"))


def read(name: str) -> Profile:
    """A profile by its name.

    Raises:
        KmsError(INVALID): there is none, or its file is wrong.
    """
    if name not in names():
        raise invalid(f'hsm.profile "{name}" does not exist; there are {", ".join(names())}')
    path = folder() / f"{name}.toml"
    try:
        tree = tomllib.loads(path.read_bytes()[:MAX_PROFILE_BYTES].decode("utf-8"))
        profile = msgspec.convert(tree, Profile, dec_hook=_decode)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise invalid(f"{path}: {error}") from None
    unknown = [each for each in profile.exclude if not each.startswith("CKM_")]
    if unknown:
        raise invalid(f"{path}: exclude names mechanisms as CKM_..., not {unknown[0]}")
    return profile


def _decode(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str) and value.startswith("/"):
        return Path(value)
    raise ValueError(f"expected an absolute path, not {value!r}")


def configured(section: TokenSection) -> HsmConfig:
    """The [hsm] section with its profile's defaults.

    Raises:
        KmsError(INVALID): no such profile, or no module.
    """
    profile = read(section.profile) if section.profile else None
    base = profile or Profile(title="", modules=(), tried="no")
    module = section.module or next((path for path in base.modules if path.is_file()), None)
    if module is None:
        where = ", ".join(str(path) for path in base.modules)
        raise invalid(
            f"the module of profile {section.profile} is in none of {where}: install it, or set hsm.module"
            if profile
            else "hsm.module is missing; set it, or a profile"
        )
    return HsmConfig(
        module=module,
        token_label=section.token_label,
        pin_file=section.pin_file,
        softhsm2_conf=section.softhsm2_conf,
        seal=Seal(section.seal) if section.seal else base.seal,
        init_args=section.init_args or base.init_args,
        environment=tuple({**base.environment, **section.environment}.items()),
        omit=tuple(section.omit or base.omit),
        exclude=base.exclude,
        deadline_seconds=base.deadline_seconds
        if section.deadline_seconds is None
        else section.deadline_seconds,
        resident_limit=base.resident_limit or RESIDENT_LIMIT,
    )
