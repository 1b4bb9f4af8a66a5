"""Identifiers: their form, and that event ids sort by time."""

from __future__ import annotations

import uuid

from kms.ids import new_event_id


def test_event_ids_are_version_7_uuids_of_their_time() -> None:
    now = 1_795_300_000.123
    made = {new_event_id(now) for _ in range(1_000)}
    assert len(made) == 1_000
    for text in made:
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert parsed.int >> 80 == int(now * 1000)


def test_event_ids_sort_by_time() -> None:
    moments = [1.0, 1_000.5, 1_795_300_000.0, 1_795_300_000.001, 1_795_300_001.0, 4_000_000_000.0]
    assert sorted(ids := [new_event_id(moment) for moment in moments]) == ids
