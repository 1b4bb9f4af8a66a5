"""Password policies: how long, of which characters, and at least how many of each kind.

    length = 20
    rule "charset" { charset = "abcdefghijklmnopqrstuvwxyz" min-chars = 2 }
    rule "charset" { charset = "0123456789" min-chars = 1 }

Read and obeyed as on the peer, in HCL or JSON. What it reads over (an unknown attribute, a rule that names no
characters beside others that do) is refused here: a `min_chars` that does nothing is a weaker password.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from kms.errors import invalid
from kms.policy._hcl import Block, Pairs, check_depth, read_hcl

MIN_LENGTH: Final = 4
MAX_LENGTH: Final = 100
MAX_CHARSET: Final = 255
MAX_TEXT: Final = 16 * 1024
_MAX_RULES: Final = 64
# Drawing again until it fits keeps every password that fits equally likely; hard rules would take for ever.
_TRIES: Final = 500


class CharsetRule(msgspec.Struct, frozen=True):
    """At least `least` characters of `charset`, which holds each of its characters once."""

    charset: str
    least: int


class PasswordRules(msgspec.Struct, frozen=True):
    """What a password policy says."""

    length: int
    rules: tuple[CharsetRule, ...]

    @property
    def charset(self) -> str:
        """All characters that a password may have, each once."""
        return "".join(dict.fromkeys("".join(rule.charset for rule in self.rules)))


def read_password_rules(text: str) -> PasswordRules:
    """A password policy, read and checked.

    Raises:
        KmsError(INVALID): it is none, or no password can obey it.
    """
    if len(text) > MAX_TEXT:
        raise invalid(f"invalid password policy: it is longer than {MAX_TEXT} characters")
    pairs = _json(text) if text.lstrip().startswith("{") else read_hcl(text)
    rules: list[CharsetRule] = []
    length: int | None = None
    for name, value in pairs:
        if name == "length" and length is None:
            length = _whole(value, "length")
        elif name == "rule":
            rules += [_charset(kind, body) for kind, body in _rules(value)]
        else:
            raise invalid(f"invalid password policy: '{name}' is unknown, or is there twice")
    return _checked(length or 0, tuple(rules))


def _checked(length: int, rules: tuple[CharsetRule, ...]) -> PasswordRules:
    if length <= 0:
        raise invalid("invalid password policy: length must be > 0")
    if not MIN_LENGTH <= length <= MAX_LENGTH:
        raise invalid(f"passwords must be between {MIN_LENGTH} and {MAX_LENGTH} characters")
    if not rules:
        raise invalid("invalid password policy: no charset specified")
    if len(rules) > _MAX_RULES:
        raise invalid(f"invalid password policy: more than {_MAX_RULES} rules")
    least = sum(rule.least for rule in rules)
    if least > length:
        raise invalid(
            f"invalid password policy: specified rules require at least {least} characters but {length} is specified"
        )
    made = PasswordRules(length=length, rules=rules)
    if len(made.charset) > MAX_CHARSET:
        raise invalid(f"invalid password policy: charset is too long: limited to {MAX_CHARSET} characters")
    return made


def generate(rules: PasswordRules) -> str:
    """A password that obeys the rules, from the system's random numbers."""
    everything = rules.charset
    for _ in range(_TRIES):
        drawn = "".join(secrets.choice(everything) for _ in range(rules.length))
        if all(sum(sign in rule.charset for sign in drawn) >= rule.least for rule in rules.rules):
            return drawn
    signs = [secrets.choice(rule.charset) for rule in rules.rules for _ in range(rule.least)]
    signs += [secrets.choice(everything) for _ in range(rules.length - len(signs))]
    secrets.SystemRandom().shuffle(signs)
    return "".join(signs)


def _json(text: str) -> Pairs:
    check_depth(text)
    try:
        value = json.loads(text, object_pairs_hook=Pairs)
    except ValueError as error:
        raise invalid(f"invalid password policy: not JSON: {error}") from error
    return value if isinstance(value, Pairs) else Pairs()


def _rules(value: Any) -> Iterator[tuple[str, Any]]:
    """(kind, body) of `rule "kind" {...}`, and of the forms that JSON has for it."""
    if isinstance(value, Block):
        yield value[0], value[1]
    elif isinstance(value, Pairs):
        for kind, bodies in value:
            for body in [bodies] if isinstance(bodies, Pairs) or not isinstance(bodies, list) else bodies:
                yield kind, body
    elif isinstance(value, list):
        for one in value:
            yield from _rules(one)
    else:
        raise invalid('invalid password policy: write rule "charset" { charset = "..." }')


def _charset(kind: str, body: Any) -> CharsetRule:
    if kind != "charset":
        raise invalid(f"invalid password policy: unrecognized rule type {kind}")
    held = dict(body) if isinstance(body, Pairs) else {}
    if not isinstance(body, Pairs) or len(held) != len(body) or not held.keys() <= {"charset", "min-chars"}:
        raise invalid("invalid password policy: a charset rule has charset and min-chars, each at most once")
    charset = held.get("charset", "")
    if not isinstance(charset, str):
        raise invalid("invalid password policy: charset must be a text")
    if not charset:
        raise invalid("invalid password policy: no charset specified")
    if not charset.isprintable():
        raise invalid("invalid password policy: non-printable character in charset")
    least = _whole(held.get("min-chars", 0), "min-chars")
    return CharsetRule(
        "".join(dict.fromkeys(charset)), max(least, 0)
    )  # the peer takes less than none for none


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid(f"invalid password policy: {name} must be a whole number")
    return value
