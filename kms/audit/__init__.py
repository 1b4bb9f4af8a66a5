"""The audit log: every answer is covered by a record that was written before it left.

Each worker process writes one segment; the jobs process gathers the frames of all segments into one RFC 6962
tree, whose checkpoints the HSM signs; `kms.audit.verify` proves offline, from public keys alone, that nothing was
changed, dropped, reordered or added after a checkpoint. Never held here: payloads, keys, tokens, PINs; values
of named fields stand in clear only when the operation declared them so. Never done here: a sync or a database
call on the way of a plain record.

Who may call: the pipeline writes (`Recorder`), the jobs process sequences and recovers (`Sequencer`, `recover`),
the command line and doctor verify. The files are described in `layout`, their lines in `record` and `control`.
"""

from kms.audit.event import Actor, Event
from kms.audit.note import LogKey, LogSigner
from kms.audit.outbox import Staged
from kms.audit.receipt import HEADER, Receipt, parse_receipt
from kms.audit.recorder import DEGRADED_SECONDS, REFUSE_SECONDS, Recorder
from kms.audit.recovery import Recovery, recover
from kms.audit.sequencer import Sequencer, Snapshot, Step

__all__ = [
    "DEGRADED_SECONDS",
    "HEADER",
    "REFUSE_SECONDS",
    "Actor",
    "Event",
    "LogKey",
    "LogSigner",
    "Receipt",
    "Recorder",
    "Recovery",
    "Sequencer",
    "Snapshot",
    "Staged",
    "Step",
    "parse_receipt",
    "recover",
]
