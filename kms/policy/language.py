"""The policy language: text to rules.

JSON is tried first, when the text opens with '{'; anything else is HCL. Both become the same list of
(name, value) pairs with repetitions kept, and only then rules. Repeated attributes are united as the
peer unites them: capabilities add up and deny wins; where that would leave two answers (`policy`, a
TTL) the text is refused. So are attributes of the peer that restrict and that we do not enforce.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from kms.errors import invalid
from kms.policy._hcl import Block, Pairs, check_depth, read_hcl
from kms.policy.conditions import read_conditions, read_time
from kms.policy.consent import read_control_group
from kms.policy.durations import parse_seconds
from kms.policy.filtering import compiled
from kms.policy.model import DENY, GRANTS, PolicyDocument, Rule, Scalar

LANGUAGE_VERSION = 1
"""Raised when the same text may parse to other rules; stored rules of an older version are re-read."""

MAX_TEXT = 128 * 1024  # characters; the HCL parser takes about a second for as much
MAX_RULES = 2_000
MAX_PATH = 1_024
MAX_VALUES = 1_000

_SHORTHAND = {
    "deny": (DENY,),
    "read": ("list", "read"),
    "write": ("create", "delete", "list", "read", "update"),
    "sudo": ("create", "delete", "list", "read", "sudo", "update"),
}
# The peer reads it and does nothing with it; a policy that demands a second factor must get one.
_NOT_ENFORCED = {"mfa_methods": "write conditions { mfa = true } instead"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def parse(text: str) -> PolicyDocument:
    """Read a policy in HCL or JSON.

    Raises:
        KmsError(INVALID): not a policy; over 128 Ki characters, 2,000 rules or 8 levels; an unknown
            attribute; or one that restricts in a way that this server does not enforce.
    """
    if len(text) > MAX_TEXT:
        raise invalid(f"the policy is longer than {MAX_TEXT} characters; split it")
    opens_json = text.lstrip().startswith("{")
    rules: list[Rule] = []
    for name, value in _read_json(text) if opens_json else read_hcl(text):
        if name == "name":
            continue  # a comment in effect: the name comes from the request path
        if name != "path":
            raise invalid(f"failed to parse policy: unknown key {name!r}; only 'path' blocks are known")
        if not isinstance(value, Block):
            raise invalid('failed to parse policy: write path "some/path" { capabilities = [...] }')
        rules.append(_rule(*value))
    if len(rules) > MAX_RULES:
        raise invalid(f"the policy has more than {MAX_RULES} paths; split it")
    return PolicyDocument(rules=tuple(rules))


def _read_json(text: str) -> Pairs:
    check_depth(text)
    try:
        value = json.loads(text, object_pairs_hook=Pairs, parse_constant=_no_constant)
    except ValueError as error:
        raise invalid(f"failed to parse policy: not JSON: {error}") from error
    pairs = Pairs()
    for name, inner in value:
        if name != "path":
            pairs.append((name, inner))
            continue
        for group in inner if isinstance(inner, list) and not isinstance(inner, Pairs) else [inner]:
            if not isinstance(group, Pairs):
                raise invalid('failed to parse policy: "path" must be an object of paths')
            for label, body in group:
                if not isinstance(body, Pairs):
                    raise invalid(f"failed to parse policy: path {label!r} must be an object")
                pairs.append(("path", Block((label, body))))
    return pairs


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _rule(label: str, body: Pairs) -> Rule:
    attributes: dict[str, list[Any]] = {}
    for name, value in body:
        if name in _NOT_ENFORCED:
            raise invalid(f"path {label!r}: '{name}' is not enforced; {_NOT_ENFORCED[name]}")
        if name not in _READERS and name != "comment":
            raise invalid(f"path {label!r}: invalid key {name!r}")
        attributes.setdefault(name, []).append(value)
    try:
        read = {name: _READERS[name](values) for name, values in attributes.items() if name in _READERS}
    except ValueError as error:
        raise invalid(f"path {label!r}: {error}") from error
    grants = read.get("capabilities", frozenset()) | read.get("policy", frozenset())
    expiration, conditions = read.get("expiration", 0.0), read.get("conditions")
    if DENY in grants:
        # Nothing else in the block matters but when it applies; the peer drops it as well.
        return Rule(path=_pattern(label), grants=(DENY,), expiration=expiration, conditions=conditions)
    shortest, longest = read.get("min_wrapping_ttl", 0), read.get("max_wrapping_ttl", 0)
    if shortest and longest and longest < shortest:
        raise invalid(f"path {label!r}: max_wrapping_ttl cannot be less than min_wrapping_ttl")
    if read.get("list_scan_response_keys_filter_path") and "list" not in grants:
        raise invalid(
            f"path {label!r}: list_scan_response_keys_filter_path needs to be used on a path with the list"
            " capability"
        )
    return Rule(
        path=_pattern(label),
        grants=tuple(sorted(grants)),
        allowed=read.get("allowed_parameters"),
        denied=read.get("denied_parameters"),
        required=read.get("required_parameters", ()),
        min_wrapping_ttl=shortest,
        max_wrapping_ttl=longest,
        expiration=expiration,
        pagination_limit=read.get("pagination_limit", 0),
        filter_path=read.get("list_scan_response_keys_filter_path", ""),
        control_group=read.get("control_group"),
        conditions=conditions,
    )


def _pattern(label: str) -> str:
    if len(label) > MAX_PATH:
        raise invalid(f"a path is longer than {MAX_PATH} characters")
    if _CONTROL.search(label):
        raise invalid(f"path {label!r}: control characters match no request")
    if "+*" in label:
        raise invalid(f"path {label!r}: invalid use of wildcards ('+*' is forbidden)")
    bare = re.sub(r"\{\{.*?\}\}", "", label)
    if "{{" in bare or "}}" in bare:
        raise invalid(f"path {label!r}: unbalanced templating characters")
    return label.removeprefix("/")


def _strings(value: Any, what: str) -> list[str]:
    if isinstance(value, Pairs) or not isinstance(value, list):
        raise ValueError(f"{what} must be a list")  # noqa: TRY004  (one error type for all attribute faults)
    for item in value:
        if not isinstance(item, str):
            raise ValueError(f"{what} must hold strings only")  # noqa: TRY004  (as above)
    if len(value) > MAX_VALUES:
        raise ValueError(f"{what} holds more than {MAX_VALUES} values")
    return value


def _capabilities(values: list[Any]) -> frozenset[str]:
    names = [name for value in values for name in _strings(value, "capabilities")]
    for name in names:
        if name not in GRANTS:
            raise ValueError(f"invalid capability {name!r}")
    return frozenset(names)


def _shorthand(values: list[Any]) -> frozenset[str]:
    value = _once(values, "policy")
    if value == "":
        return frozenset()
    if not isinstance(value, str) or value not in _SHORTHAND:
        raise ValueError(f"invalid policy {value!r}")
    return frozenset(_SHORTHAND[value])


def _ttl(name: str) -> Callable[[list[Any]], int]:
    def read(values: list[Any]) -> int:
        try:
            return parse_seconds(_once(values, name))
        except ValueError as error:
            raise ValueError(f"error parsing {name}: {error}") from error

    return read


def _once(values: list[Any], name: str) -> Any:
    if len(values) > 1:
        raise ValueError(f"'{name}' is given twice")
    return values[0]


def _single(name: str, reader: Callable[[Any], Any]) -> Callable[[list[Any]], Any]:
    """Of an attribute that may stand in a block once: a second would have to be united or be lost."""
    return lambda values: reader(_once(values, name))


def _limit(value: Any) -> int:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise ValueError("pagination_limit must be a number of keys")
    return max(int(text), 0)  # the peer takes a negative bound for none


def _template(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("list_scan_response_keys_filter_path must be a text")  # noqa: TRY004  (one error type)
    try:
        if value:
            compiled(value)
    except ValueError as error:
        raise ValueError(f"list_scan_response_keys_filter_path: {error}") from error
    return value


def _required(values: list[Any]) -> tuple[str, ...]:
    names = (name.lower() for value in values for name in _strings(value, "required_parameters"))
    return tuple(dict.fromkeys(names))


def _parameters(name: str) -> Callable[[list[Any]], dict[str, tuple[Scalar, ...]]]:
    denies = name == "denied_parameters"

    def read(values: list[Any]) -> dict[str, tuple[Scalar, ...]]:
        merged: dict[str, tuple[Scalar, ...]] = {}
        for value in values:
            if not isinstance(value, Pairs):
                raise ValueError(f"{name} must be an object of lists")  # noqa: TRY004  (one error type)
            for parameter, given in value:
                key, listed = parameter.lower(), _scalars(given, f"{name} of {parameter!r}")
                before = merged.get(key)
                # An empty list forbids every value; a repetition must not make that less.
                whole = denies and before is not None and not (before and listed)
                merged[key] = () if whole else (before or ()) + listed
        if sum(len(listed) + 1 for listed in merged.values()) > MAX_VALUES:
            raise ValueError(f"{name} holds more than {MAX_VALUES} values")
        return merged

    return read


def _scalars(value: Any, what: str) -> tuple[Scalar, ...]:
    if isinstance(value, Pairs) or not isinstance(value, list):
        raise ValueError(f"{what} must be a list")  # noqa: TRY004  (one error type for all attribute faults)
    for item in value:
        if not isinstance(item, str | int | float) or _unbounded(item):
            raise ValueError(f"{what} must hold strings, numbers and booleans only")
    return tuple(value)


def _unbounded(item: Scalar) -> bool:
    return not isinstance(item, str) and not -(2**63) < item < 2**63  # False for NaN comparisons too


_READERS: dict[str, Callable[[list[Any]], Any]] = {
    "policy": _shorthand,
    "capabilities": _capabilities,
    "allowed_parameters": _parameters("allowed_parameters"),
    "denied_parameters": _parameters("denied_parameters"),
    "required_parameters": _required,
    "min_wrapping_ttl": _ttl("min_wrapping_ttl"),
    "max_wrapping_ttl": _ttl("max_wrapping_ttl"),
    "expiration": _single("expiration", lambda value: read_time(value, "invalid expiration time")),
    "pagination_limit": _single("pagination_limit", _limit),
    "list_scan_response_keys_filter_path": _single("list_scan_response_keys_filter_path", _template),
    "control_group": _single("control_group", read_control_group),
    "conditions": _single("conditions", read_conditions),
}
