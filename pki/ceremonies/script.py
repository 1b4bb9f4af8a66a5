"""The script of a ceremony: TOML, strict.

    title = "First root of Example"
    witnesses = ["Ada", "Grace"]           # each confirms each step
    signer = "root"                        # the root, or transcript key, that signs the transcript
    previous = ""                          # the folder of the ceremony before, if there was one

    [token]                                # as [hsm] of a server's configuration, without pin_file
    profile = "softhsm"
    token_label = "offline"

    [[step]]
    action = "make-root"                   # a key born in the token, and its certificate
    name = "root"
    common_name = "Example Root"

    [[step]]
    action = "sign-intermediate"           # certify the key of a request
    issuer = "root"
    name = "issuing-1"
    csr = "issuing-1.csr"                  # beside the script

    [[step]]
    action = "sign-crl"
    issuer = "root"

Further actions: cross-sign, revoke, make-transcript-key. Times are durations ("87600h"). An unknown key
refuses the whole script.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from kms.config import HsmSection
from kms.errors import invalid

MAX_SCRIPT_BYTES = 64 * 1024
NO_PIN = Path("/dev/null")  # stands in for a PIN file until the one who runs the ceremony names it

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Duration = Annotated[str, msgspec.Meta(pattern=r"^[0-9][0-9.hmsd]{0,31}$")]
NameOrSerial = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_:-]{0,63}$")]
Reason = Literal[
    "", "keyCompromise", "cACompromise", "affiliationChanged", "superseded", "cessationOfOperation"
]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="action"):
    """What all steps share."""


class MakeRoot(_Part, frozen=True, kw_only=True, tag="make-root"):
    """A root: a pair born in the token, and the certificate that it signs itself.

    Args:
        max_path_length: -1 for no limit.
    """

    name: Name
    common_name: Text
    key_type: Literal["ec", "rsa", "ed25519"] = "ec"
    key_bits: int = 384
    ttl: Duration = "175200h"
    max_path_length: int = -1
    permitted_dns_domains: tuple[str, ...] = ()
    organization: tuple[str, ...] = ()
    ou: tuple[str, ...] = ()
    country: tuple[str, ...] = ()
    locality: tuple[str, ...] = ()
    province: tuple[str, ...] = ()


class MakeTranscriptKey(_Part, frozen=True, kw_only=True, tag="make-transcript-key"):
    """A pair that signs transcripts and nothing else."""

    name: Name
    key_type: Literal["ec", "rsa"] = "ec"
    key_bits: int = 256


class _Certify(_Part, frozen=True, kw_only=True):
    issuer: Name
    name: Name
    ttl: Duration = "43800h"
    max_path_length: int = -1
    permitted_dns_domains: tuple[str, ...] = ()
    issuing_certificates: tuple[str, ...] = ()
    crl_distribution_points: tuple[str, ...] = ()
    ocsp_servers: tuple[str, ...] = ()


class SignIntermediate(_Certify, frozen=True, kw_only=True, tag="sign-intermediate"):
    """A CA certificate for the key and the subject of a request.

    Args:
        csr: its file, beside the script or absolute. csr_sha256: of the file's bytes, to pin it.
    """

    csr: Text
    csr_sha256: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")] = ""


class CrossSign(_Certify, frozen=True, kw_only=True, tag="cross-sign"):
    """A certificate by another root of this token for the subject and key of a self-signed root.

    Args:
        root: a root of this token by name, or the file of a certificate.
    """

    root: Text


class Revoke(_Part, frozen=True, kw_only=True, tag="revoke"):
    """Put a certificate of `issuer` on its next CRL: by the name that it was made under, or by serial."""

    issuer: Name
    certificate: NameOrSerial
    reason: Reason = ""


class SignCrl(_Part, frozen=True, kw_only=True, tag="sign-crl"):
    """The next CRL of a root.

    Args:
        next_update: how long it is good for; twelve months at most.
    """

    issuer: Name
    next_update: Duration = "4320h"


Step = MakeRoot | MakeTranscriptKey | SignIntermediate | CrossSign | Revoke | SignCrl


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole script."""

    title: Text
    witnesses: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1, max_length=32)]
    signer: Name
    token: HsmSection
    step: Annotated[tuple[Step, ...], msgspec.Meta(min_length=1, max_length=200)]
    previous: str = ""

    def made_keys(self) -> set[str]:
        """The names of the keys that its steps make."""
        return {step.name for step in self.step if isinstance(step, MakeRoot | MakeTranscriptKey)}

    def inputs(self) -> Iterator[str]:
        """The files that steps name, as the script spells them."""
        made = {step.name for step in self.step if isinstance(step, MakeRoot)}
        for step in self.step:
            if isinstance(step, SignIntermediate):
                yield step.csr
            elif isinstance(step, CrossSign) and step.root not in made and "." in step.root:
                yield step.root


def parse(data: bytes, name: str) -> Script:
    """Read a script; `name` stands in the messages.

    Raises:
        KmsError(INVALID): a sentence with the place and what is wrong.
    """
    if len(data) > MAX_SCRIPT_BYTES:
        raise invalid(f"{name} is larger than {MAX_SCRIPT_BYTES} bytes; is it really a script?")
    try:
        tree = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise invalid(f"{name} is not TOML: {error}") from None
    token = tree.get("token")
    if isinstance(token, dict):
        if "pin_file" in token:
            raise invalid(f"{name}: a script names no pin_file; type the PIN, or give --pin-file")
        token["pin_file"] = str(NO_PIN)
    try:
        script = msgspec.convert(tree, Script, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise invalid(f"{name}: {error}") from None
    _check(script, name)
    return script


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str) and value.startswith("/"):
        return Path(value)
    raise ValueError(f"expected an absolute path, not {value!r}")


def _check(script: Script, name: str) -> None:
    if len(set(script.witnesses)) != len(script.witnesses):
        raise invalid(f"{name}: each witness is named once")
    if any(not text.isprintable() for text in (script.title, *script.witnesses)):
        raise invalid(f"{name}: title and witnesses are printable text")
    files = {Path(given).name: given for given in script.inputs()}
    if len(files) != len(set(script.inputs())):
        raise invalid(f"{name}: two different inputs have the same file name; rename one")
    names = [step.name for step in script.step if not isinstance(step, Revoke | SignCrl)]
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice:
        raise invalid(f"{name}: two steps make the name {twice[0]}")
