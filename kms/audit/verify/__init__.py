"""The stand-alone verifier: proves an audit folder complete and in order, from public keys alone.

    python -m kms.audit.verify DIR [--trust FILE] [--receipt TEXT]...

It trusts the origin, keys and remembered checkpoints of the trust file and nothing else; it needs neither a
server, a database nor an HSM, and changes nothing. On a folder that is being written it judges the part under the
newest signed checkpoint and counts what is newer. It names the first bad place:

(1) the signed heads, all of them, by keys that counted there, and that they only grow;
(2) the leaves, under every signed root, and the story they tell (no silent minute, no lost segment);
(3) every segment: each record in its place, each frame over its records, each control line a leaf;
(4) receipts; (5) files put aside, and files that do not belong;
(6) the log before, where this one goes on for another; (7) no event twice, no intent left open.

It does not prove that a process told the truth when it wrote, nor anything about records newer than the newest
checkpoint; and without a checkpoint remembered outside it cannot know that a whole folder was put back.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kms.audit.layout import Layout
from kms.audit.note import LogKey, parse_key
from kms.audit.receipt import Receipt
from kms.audit.verify.acts import Acts
from kms.audit.verify.epochs import check_before
from kms.audit.verify.folder import check_files, newer_segments
from kms.audit.verify.heads import read_heads
from kms.audit.verify.leaves import LeafReader, LogView
from kms.audit.verify.report import BadError, Finding, Gap, Report
from kms.audit.verify.segments import SegmentReader
from kms.audit.verify.signing import read_signing
from kms.audit.verify.trust import TrustFile
from kms.errors import KmsError

__all__ = ["Finding", "Gap", "Report", "TrustFile", "verify"]


def verify(folder: Path, trust: TrustFile | None, receipts: Sequence[Receipt] = ()) -> Report:
    """Verify an audit folder.

    Args:
        folder: the audit folder; may be in use.
        trust: what is known beforehand; None takes the folder's own key, which proves only consistency.
        receipts: of answers; each must be in the log.

    Returns:
        A report; `failure` names the first bad place.

    Raises:
        OSError: the folder cannot be read.
    """
    report = Report(pinned=trust is not None)
    try:
        _verify(Layout(folder), trust, receipts, report)
    except BadError as bad:
        report.failure = bad.finding
    return report


def _verify(layout: Layout, trust: TrustFile | None, receipts: Sequence[Receipt], report: Report) -> None:
    trust = trust or TrustFile(_own_keys(layout))
    report.origin = trust.origin
    report.fingerprint = ", ".join(key.fingerprint for key in trust.keys)
    heads = read_heads(layout, read_signing(layout, trust.keys), report.notes)  # (1)
    report.size, report.root = heads.newest.size, heads.newest.root.hex()
    remembered = max(trust.seen, default=0)
    if heads.newest.size < remembered:
        raise BadError(
            "checkpoint", f"the log ends at size {heads.newest.size}; size {remembered} has been seen"
        )
    view = LeafReader(layout, trust.origin, heads, trust.seen).read()  # (2)
    report.complete_to, report.gaps, report.segments = view.wall, view.gaps, len(view.segments)
    acts = Acts()
    named_later = _read_segments(layout, view, acts, receipts, report)  # (3), (4)
    check_files(layout, view, named_later, report.notes)  # (5)
    check_before(layout, view.before, report.notes)  # (6)
    still_open = acts.check(view.wall)  # (7)
    report.unknown = acts.unknown
    if still_open:
        report.notes.append(f"{still_open} external operations were under way")


def _own_keys(layout: Layout) -> tuple[LogKey, ...]:
    try:
        return tuple(parse_key(line) for line in layout.keys.read_text("ascii", "replace").splitlines())
    except FileNotFoundError:
        raise BadError("log.pub", "missing; give --trust FILE") from None
    except KmsError as error:
        raise BadError("log.pub", error.detail) from None


def _read_segments(
    layout: Layout, view: LogView, acts: Acts, receipts: Sequence[Receipt], report: Report
) -> set[str]:
    wanted: dict[str, dict[int, Receipt]] = {}
    for receipt in receipts:
        if receipt.origin != report.origin:
            raise BadError("receipt", f"it is of the log {receipt.origin}")
        same = wanted.setdefault(receipt.segment, {})
        if same.setdefault(receipt.seq, receipt) != receipt:
            raise BadError("receipt", f"two receipts for record {receipt.seq} of segment {receipt.segment}")
    named_later: set[str] = set()
    for segment in [*view.segments, *newer_segments(layout, view)]:
        reader = SegmentReader(
            layout,
            segment,
            view.segments.get(segment),
            acts,
            beat_wall=view.beat_wall,
            receipts=wanted.get(segment, {}),
        )
        reader.read()
        report.records += reader.records
        report.uncovered += reader.uncovered
        named_later |= reader.torn
    for segment, left in wanted.items():
        for seq in left:
            raise BadError(
                f"segments/{segment}.jsonl", f"record {seq}, which there is a receipt for, is missing"
            )
    return named_later
