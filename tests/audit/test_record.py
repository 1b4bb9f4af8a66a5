"""Record lines: one event is one ASCII line of at most 16 KiB, whatever a caller puts into it (T-23)."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.audit.event import Actor, Event
from kms.audit.record import MAX_EVENT, MAX_LINE, decode_record, encode_event, encode_record
from kms.errors import KmsError
from tests.audit.rig import event

SEGMENT = "ab" * 16


def line_of(happened: Event, **more: Any) -> bytes:
    return encode_record(SEGMENT, 7, 1_700_000_000.123456, 99.5, encode_event(happened), **more)[1]


def test_the_leaf_is_what_the_design_says() -> None:
    leaf, line = encode_record(SEGMENT, 7, 1_700_000_000.123456, 99.5, encode_event(event()))
    covered, _, rest = line.rpartition(b',"h":')
    assert leaf == hashlib.sha256(b"\0" + covered).digest()
    assert rest == b'"' + leaf.hex()[:16].encode() + b'"}\n'
    parsed = json.loads(line)
    assert list(parsed) == ["segment", "seq", "wall", "mono", "event", "h"]
    assert (parsed["segment"], parsed["seq"], parsed["wall"]) == (SEGMENT, 7, 1_700_000_000.123456)


def test_every_member_of_an_event_comes_back() -> None:
    happened = Event(
        id="0b0fd9f4-6c3b-4d4e-9f55-3f2f4d1f3b11",
        phase="intent",
        operation="pki.issue",
        resource="pki/issue/web",
        door="vault",
        peer="127.0.0.1:1",
        principal=Actor(accessor="a", display_name="t", entity_id="e", policies=("x", "y")),
        rule="x: pki/issue/*",
        outcome="denied",
        items=3,
        subject={"serial": "40:01", "version": 2},
        fields={"common_name": "a.example", "ttl": 60, "names": ["a", "b"], "deep": {"k": None}},
        generation=17,
        at=5.5,
    )
    _, record, again = decode_record(line_of(happened, tx=happened.key, late=True))
    assert again == happened
    assert (record.tx, record.late) == (happened.key, True)


NASTY = [
    "a\r\nb",
    '"}\n{"segment":"forged"}',
    "\x1b[2J\x1b[31mred",
    "line\u2028separator\u2029",
    "nul\x00del\x7f",
    "\u202eright-to-left",
    "c1\x85\x9b",
    "astral \U0001f511",
    "lone \ud800 surrogate",
    "x" * 200_000,
    "\u00e9" * 9_000,
]


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("where", ["resource", "peer", "rule", "field", "name", "subject", "policy", "id"])
def test_injection_stays_inside_its_string(text: str, where: str) -> None:
    happened = {
        "resource": lambda: event(resource="ok").__class__(
            id="1", phase="done", operation="o", resource=text
        ),
        "peer": lambda: Event(id="1", phase="refused", operation="o", peer=text),
        "rule": lambda: Event(id="1", phase="done", operation="o", rule=text),
        "field": lambda: Event(id="1", phase="done", operation="o", fields={"name": text}),
        "name": lambda: Event(id="1", phase="done", operation="o", fields={text: "value"}),
        "subject": lambda: Event(id="1", phase="done", operation="o", subject={"name": text}),
        "policy": lambda: Event(id="1", phase="done", operation="o", principal=Actor(policies=("a", text))),
        "id": lambda: Event(id=text, phase="done", operation="o"),
    }[where]()
    line = line_of(happened)
    assert len(line) <= MAX_LINE
    assert line.count(b"\n") == 1
    assert all(0x20 <= byte < 0x7F for byte in line[:-1])
    _, _, again = decode_record(line)
    short = len(json.dumps(text)) < 15_000 and "\ud800" not in text
    assert (again == happened) == short
    assert bool(again.cut) != short
    if len(text) > 100_000:
        assert hashlib.sha256(text.encode()).hexdigest()[:16].encode() in line


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None))
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


@given(st.dictionaries(st.text(), values, max_size=5), st.text(), st.text(st.characters(codec=None)))
def test_no_value_makes_recording_fail(fields: dict[str, Any], resource: str, peer: str) -> None:
    happened = Event(id="1", phase="done", operation="o", resource=resource, peer=peer, fields=fields)
    line = line_of(happened)
    decode_record(line)
    assert line.count(b"\n") == 1


class Odd:
    """A value of no JSON type."""


def test_values_that_json_does_not_have_are_named_not_shown() -> None:
    nested: list[Any] = []
    for _ in range(3000):
        nested = [nested]
    fields = {"a": Odd(), "b": nested, "c": 1 << 70, "d": b"\xff\x00", "e": {1, 2}}
    _, _, again = decode_record(line_of(Event(id="1", phase="done", operation="o", fields=fields)))
    assert again.fields["a"] == "[Odd]"
    assert "fields.c" not in again.cut
    assert {"fields.a", "fields.e"} <= set(again.cut)


def test_an_event_of_nothing_but_bulk_is_cut_to_its_names() -> None:
    wide = {f"{number:03}": {f"{n}": "y" * 60 for n in range(64)} for number in range(64)}
    happened = Event(id="1", phase="done", operation="o" * 99, resource="r" * 99_000, fields=wide)
    data = encode_event(happened)
    assert len(data) <= MAX_EVENT
    _, _, again = decode_record(line_of(happened))
    assert again.operation.startswith("ooo")
    assert again.cut


def test_text_that_looks_cut_is_not_taken_for_cut() -> None:
    _, _, again = decode_record(line_of(event(resource="x...[9000 chars, sha256 0123456789abcdef]")))
    assert again.cut == ()


def rehash(body: bytes) -> bytes:
    return body + b',"h":"%b"}\n' % hashlib.sha256(b"\0" + body).hexdigest()[:16].encode()


GOOD = (
    b'{"segment":"%b","seq":7,"wall":1.500000,"mono":2.000000,"event":{"id":"1","phase":"done","operation":"o"}'
    % (SEGMENT.encode())
)

BAD_LINES = {
    "empty": b"",
    "no newline": rehash(GOOD)[:-1],
    "wrong h": rehash(GOOD).replace(b'"o"', b'"p"'),
    "no h": GOOD + b"}\n",
    "too long": rehash(GOOD.replace(b'"o"', b'"' + b"o" * MAX_LINE + b'"')),
    "not ASCII": rehash(GOOD.replace(b'"o"', '"é"'.encode())),
    "spaces": rehash(GOOD.replace(b'"seq":7', b'"seq": 7')),
    "leading zero": rehash(GOOD.replace(b'"seq":7', b'"seq":07')),
    "float form": rehash(GOOD.replace(b"1.500000", b"1.5")),
    "name twice": rehash(GOOD.replace(b'"seq":7', b'"seq":7,"seq":7')),
    "name twice in the event": rehash(GOOD.replace(b'"phase":"done"', b'"phase":"done","phase":"done"')),
    "name twice in fields": rehash(GOOD[:-1] + b',"fields":{"a":1,"a":2}}'),
    "unknown member": rehash(GOOD.replace(b'"seq":7', b'"seq":7,"extra":1')),
    "unknown phase": rehash(GOOD.replace(b'"done"', b'"gone"')),
    "not JSON": rehash(b"not JSON at all"),
    "nested too deeply": rehash(GOOD[:-1] + b',"fields":{"a":' + b"[" * 7000 + b"]" * 7000 + b"}}"),
    "false late": rehash(GOOD.replace(b',"event"', b',"late":false,"event"')),
    "tx of another event": rehash(GOOD.replace(b'{"segment"', b'{"tx":"2/done","segment"')),
}


def test_the_good_line_is_good() -> None:
    decode_record(rehash(GOOD))


@pytest.mark.parametrize("name", BAD_LINES)
def test_only_our_own_spelling_is_a_record(name: str) -> None:
    with pytest.raises(KmsError):
        decode_record(BAD_LINES[name])


@given(st.integers(0, 10**6), st.data())
def test_any_changed_byte_is_noticed(seq: int, data: st.DataObject) -> None:
    _, line = encode_record(SEGMENT, seq, 1.25, 2.5, encode_event(event(fields={"k": "v"})))
    at = data.draw(st.integers(0, len(line) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != line[at]))
    with pytest.raises(KmsError):
        decode_record(line[:at] + bytes([other]) + line[at + 1 :])
