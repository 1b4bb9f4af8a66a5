"""The processes of one server: supervisor, gunicorn's arbiter, its workers, and the jobs process.

    supervisor    holds the lock on the storage folder and the listening socket, makes the shared page,
                  starts and restarts the others, prints nothing but through its callbacks
      arbiter     gunicorn: keeps the workers alive
        worker    an event loop, a thread pool, one `App` (one HSM login) each
      jobs        the periodic work, one `App`

Promises: no two servers on one storage folder; children die with their parent, so that nobody answers
from a dead server; nothing opens the HSM or the database before its last fork; a stop lets running
requests end and closes the audit log cleanly. Never handles a request itself. Called by `kms.cli`.
"""

from kms.server.offline import Work, run_offline
from kms.server.parts import Builder, ServerApp
from kms.server.supervisor import Supervisor

__all__ = ["Builder", "ServerApp", "Supervisor", "Work", "run_offline"]
