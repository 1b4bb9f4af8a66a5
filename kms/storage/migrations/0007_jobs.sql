-- The fence of the jobs process: its newest number (kms.jobs.fence).
CREATE TABLE jobs_fence (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
