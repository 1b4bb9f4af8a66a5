"""The jobs process: periodic work that belongs to no request (sequencing, reaping, refreshing, checking).

Promises: tasks run one after another in one process, each at its interval; one that fails is logged
and tried again, and does not keep the others from running; writes of a jobs process that has been
replaced are refused (the fence). Never serves a request. Tasks are made by `kms.app`, run by
`kms.server`.
"""

from kms.jobs.fence import FENCE, Fence, FenceNumber
from kms.jobs.scheduler import Scheduler, Task

__all__ = ["FENCE", "Fence", "FenceNumber", "Scheduler", "Task"]
