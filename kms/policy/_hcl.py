"""HCL texts, read as plain literals.

python-hcl2's parse tree is walked here instead of using its dictionaries, which keep only the last of a
repeated attribute: `capabilities = ["deny"]` followed by `["read"]` would read as "read". Before the
parser sees a text, a scan over strings, comments and the few characters that policies need refuses all
the rest (expressions, templates of HCL, heredocs) and bounds the nesting, so that the grammar's large
and partly quadratic remainder is out of an attacker's reach.
"""

from __future__ import annotations

import re
from typing import Any

from kms.errors import invalid

MAX_DEPTH = 8

_TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\\n]|\\[^\n])*")
      | (?P<comment>\#[^\n]*|//[^\n]*|/\*.*?\*/)
      | (?P<open>[\[{])
      | (?P<close>[\]}])
      | (?P<plain>[A-Za-z0-9_.,=\s-]+)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}


class Pairs(list[tuple[str, Any]]):
    """An object as written: (name, value) in order, repetitions kept."""


class Block(tuple[str, Pairs]):
    """The value of a labelled block: (label, body)."""

    __slots__ = ()


def read_hcl(text: str) -> Pairs:
    """The top-level (name, value) pairs; the value of `path "x" {...}` is a Block.

    Raises:
        KmsError(INVALID): not HCL, or something other than literals.
    """
    _scan(text)
    # Loading the parser takes 0.2 s, and only processes that read a policy text need it.
    from hcl2.api import parses_to_tree  # noqa: PLC0415  (see above)
    from lark.exceptions import LarkError, UnexpectedInput  # noqa: PLC0415  (see above)

    try:
        tree = parses_to_tree(text + "\n")  # a comment without a newline at the end is no comment to it
    except UnexpectedInput as error:
        raise invalid(
            f"failed to parse policy: unexpected text at line {error.line}, column {error.column}"
        ) from error
    except LarkError as error:
        raise invalid("failed to parse policy: it is neither HCL nor JSON") from error
    return _body(tree.children[0])


def check_depth(text: str) -> None:
    """Refuse JSON that nests deeper than any policy does, before a recursive parser sees it."""
    depth = 0
    for match in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', text, re.DOTALL):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > MAX_DEPTH:
            raise invalid(f"failed to parse policy: nested deeper than {MAX_DEPTH} levels")


def _scan(text: str) -> None:
    depth = position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            line = text.count("\n", 0, position) + 1
            raise invalid(
                f"failed to parse policy: character {text[position]!r} is not allowed at line {line};"
                " only literal strings, numbers, booleans, lists and objects are"
            )
        kind = match.lastgroup
        if kind == "string" and ("${" in match[0] or "%{" in match[0]):
            raise invalid("failed to parse policy: '${' and '%{' have no meaning in a policy")
        depth += (kind == "open") - (kind == "close")
        if depth > MAX_DEPTH:
            raise invalid(f"failed to parse policy: nested deeper than {MAX_DEPTH} levels")
        position = match.end()


def _body(body: Any) -> Pairs:
    pairs = Pairs()
    for node in body.children:
        if node.data == "attribute":
            name, _equals, value = node.children
            pairs.append((_identifier(name), _literal(value)))
        elif node.data == "block":
            pairs.append(_block(node))
    return pairs


def _block(node: Any) -> tuple[str, Any]:
    name, *rest = [
        child for child in node.children if _is_tree(child) and child.data != "new_line_or_comment"
    ]
    *labels, body = rest
    if len(labels) > 1:
        raise invalid(f"failed to parse policy: block '{_identifier(name)}' has more than one label")
    inner = _body(body)
    if not labels:
        return _identifier(name), inner
    label = labels[0]
    text = _string(label) if label.data == "string" else _identifier(label)
    return _identifier(name), Block((text, inner))


def _identifier(node: Any) -> str:
    return str(node.children[0])


def _literal(node: Any) -> Any:
    if node.data == "unary_op":
        sign, operand = node.children
        value = _literal(operand)
        if str(sign) != "-" or isinstance(value, bool) or not isinstance(value, int | float):
            raise _not_literal()
        return -value
    if node.data != "expr_term" or len(node.children) != 1:
        raise _not_literal()
    inner = node.children[0]
    reader = _LITERALS.get(inner.data)
    if reader is None:
        raise _not_literal()
    return reader(inner)


def _string(node: Any) -> str:
    parts = []
    for child in node.children[1:-1]:
        part = child.children[0]
        if _is_tree(part):
            raise _not_literal()
        parts.append(_ESCAPE.sub(_unescape, str(part)))
    return "".join(parts)


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] in "uU" and len(code) > 1:
        number = int(code[1:], 16)
        if number > 0x10FFFF:
            raise invalid(f"failed to parse policy: '\\{code}' is no character")
        return chr(number)
    if code not in _ESCAPES:
        raise invalid(f"failed to parse policy: unknown escape '\\{code}' in a string")
    return _ESCAPES[code]


def _boolean(node: Any) -> bool:
    word = str(node.children[0])
    if word not in {"true", "false"}:
        raise _not_literal()
    return word == "true"


def _number(node: Any) -> int | float:
    text = str(node.children[0])
    if len(text) > 20:
        raise invalid("failed to parse policy: a number is longer than 20 characters")
    return int(text) if node.data == "int_lit" else float(text)


def _tuple(node: Any) -> list[Any]:
    return [
        _literal(child) for child in node.children if _is_tree(child) and child.data != "new_line_or_comment"
    ]


def _object(node: Any) -> Pairs:
    pairs = Pairs()
    for element in node.children:
        if not _is_tree(element) or element.data != "object_elem":
            continue
        key, _equals, value = element.children
        pairs.append((_key(key.children[0]), _literal(value)))
    return pairs


def _key(node: Any) -> str:
    inner = node.children[0]
    if node.data == "expr_term" and len(node.children) == 1 and _is_tree(inner):
        if inner.data == "string":
            return _string(inner)
        if inner.data == "identifier":
            return _identifier(inner)
    if node.data == "keyword":
        return str(inner)
    raise _not_literal()


_LITERALS = {
    "string": _string,
    "literal_value": _boolean,
    "int_lit": _number,
    "float_lit": _number,
    "tuple": _tuple,
    "object": _object,
}


def _is_tree(node: Any) -> bool:
    return hasattr(node, "children")


def _not_literal() -> Exception:
    return invalid(
        "failed to parse policy: only literal strings, numbers, booleans, lists and objects are allowed"
    )
