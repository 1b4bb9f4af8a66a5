"""Files of expectations, and policy texts in files, for `keystead policy`.

    policies = ["orders-app.hcl", "shared/"]      # files or folders, beside this file

    [[expect]]
    policies = ["orders-app"]
    path = "transit/encrypt/orders"
    capability = "update"
    allowed = true

Further keys of an expectation: `name`, `why` and `rule` (what the answer must be); `sudo`, `parameters`, `wrap_ttl`,
`peer`, `time`, `mfa` and `tags` (what is supposed).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from kms.durations import seconds
from kms.errors import KmsError, invalid
from kms.operation import Capability
from kms.policy import Arguments, Context, PolicyDocument, canonical_name, compile_acl, parse
from kms.policy.builtin import DEFAULT, DEFAULT_DOCUMENT, ROOT
from kms.policy.conditions import read_time
from kms.policy.explain import Asked, explain

MAX_CASES = 10_000
_SUFFIXES = (".hcl", ".json")


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request and what is expected of it; None for what is not."""

    path: str
    capability: str
    policies: tuple[str, ...] = ()
    allowed: bool | None = None
    name: str = ""
    why: str | None = None
    rule: str | None = None
    sudo: bool = False
    parameters: dict[str, Any] = {}
    wrap_ttl: str | int = ""
    peer: str = ""
    time: str = ""
    mfa: bool | None = None
    tags: dict[str, str] = {}

    @property
    def title(self) -> str:
        """How it is called in reports."""
        return self.name or f"{'+'.join(self.policies)} {self.capability} {self.path}"

    def body(self) -> dict[str, Any]:
        """The request as sys/policies/explain takes it."""
        body: dict[str, Any] = {"path": self.path, "capability": self.capability, "sudo": self.sudo}
        given = {
            name: getattr(self, name) for name in ("parameters", "wrap_ttl", "peer", "time", "mfa", "tags")
        }
        return body | {name: value for name, value in given.items() if value not in ("", {}, None)}

    def failures(self, told: Mapping[str, Any]) -> list[str]:
        """What is otherwise than expected, a sentence each."""
        wanted = {name: getattr(self, name) for name in ("allowed", "why", "rule")}
        return [
            f"{name} is {told[name]!r}, not {value!r} ({told['reason']})"
            for name, value in wanted.items()
            if value is not None and told[name] != value
        ]


_decode_case = msgspec.json.Decoder(Case).decode


def load_cases(file: Path) -> tuple[list[Path], list[Case]]:
    """The texts that a file of expectations names, and its expectations.

    Raises:
        KmsError(INVALID): it is no such file, or expects nothing.
    """
    try:
        tree = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise invalid(f"{file} is not TOML: {error}") from None
    unknown = set(tree) - {"policies", "expect"}
    if unknown or not isinstance(tree.get("expect"), list) or len(tree["expect"]) > MAX_CASES:
        raise invalid(
            f"{file}: it has a list 'policies' and tables [[expect]], at most {MAX_CASES}, and nothing else"
        )
    cases = []
    for number, table in enumerate(tree["expect"], 1):
        try:
            case = _decode_case(msgspec.json.encode(_plain(table)))
        except msgspec.ValidationError as error:
            raise invalid(f"{file}: expectation {number}: {error}") from None
        if case.allowed is None and case.why is None and case.rule is None:
            raise invalid(f"{file}: expectation {number} expects nothing; give allowed, why or rule")
        cases.append(case)
    texts = [file.parent / name for name in tree.get("policies", [])]
    for path in texts:
        if not path.exists():
            raise invalid(f"{file}: there is no {path}")
    return texts, cases


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    """TOML knows times; the API takes texts."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value for name, value in table.items()
    }


def load_policies(paths: Iterable[Path]) -> dict[str, PolicyDocument]:
    """Policy texts, called as their files; `default` is there unless it is among them.

    Raises:
        KmsError(INVALID): one cannot be read, or two have one name.
    """
    found: dict[str, PolicyDocument] = {}
    for path in paths:
        files = sorted(one for one in path.iterdir() if one.suffix in _SUFFIXES) if path.is_dir() else [path]
        for file in files:
            name = canonical_name(file.stem)
            if name in found:
                raise invalid(f"two files have the policy {name}: {file}")
            try:
                found[name] = parse(file.read_text("utf-8"))
            except KmsError as error:
                raise invalid(f"{file}: {error.detail}") from None
            except (OSError, UnicodeDecodeError) as error:
                raise invalid(f"cannot read {file}: {error}") from None
    return {DEFAULT: DEFAULT_DOCUMENT} | found


def run_case(case: Case, documents: Mapping[str, PolicyDocument], now: float) -> dict[str, Any]:
    """The explanation of one request under some of these policies.

    Raises:
        KmsError(INVALID): a policy that is not there, or a value that is no such thing.
    """
    names = [canonical_name(name) for name in case.policies]
    missing = [name for name in names if name not in documents and name != ROOT]
    if missing:
        raise invalid(f"{case.title}: there is no policy {missing[0]}")
    moment = now
    try:
        if case.time:
            moment = read_time(case.time, "time")
        wrap_ttl = case.wrap_ttl if isinstance(case.wrap_ttl, int) else seconds(case.wrap_ttl)
        capability = Capability(case.capability)
    except ValueError as error:
        raise invalid(f"{case.title}: {error}") from None
    used = {name: documents[name] for name in sorted(set(names)) if name != ROOT}
    acl = compile_acl(used, root=ROOT in names, now=moment)
    return explain(
        acl,
        Asked(
            path=case.path.removeprefix("/"),
            capability=capability,
            sudo=case.sudo,
            arguments=Arguments(extra=case.parameters, wrap_ttl=wrap_ttl),
            context=Context(now=moment, peer=case.peer, mfa=case.mfa, tags=case.tags),
        ),
    )
