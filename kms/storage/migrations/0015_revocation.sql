-- What an issuer's CRLs are made of and how fresh each is: the complete one, the delta, and the shards.

-- Revocations in the order of their numbers, by shard: mount/issuer/shard/number.
CREATE TABLE pki_crl_journal (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

-- For each CRL the number that it must reach and the one that it has: mount/issuer/scope.
CREATE TABLE pki_crl_marks (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

-- How many shards an issuer has, and under which URLs certificates name them: mount/issuer.
CREATE TABLE pki_crl_shards (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

-- The certificate and key that answer for an issuer: mount/issuer.
CREATE TABLE pki_ocsp_responders (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
