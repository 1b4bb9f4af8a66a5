"""Ceremonies of an offline CA: scripted, witnessed, and on record.

A ceremony works on a token of its own, whose PIN no server has, and without a database: its folder is
the record.

    script.toml        what is to be done, as it was read
    inputs/            requests and certificates that the script names, as they were read
    transcript.jsonl   what was done: one line for each fact, each with the hash of the line before
    transcript.sig     a signature over that file, made in the token; transcript.pub is its public key
    NAME.crt NAME.crl  what was made, in PEM

Each step is planned on the record, with the CKA_ID of its key or the bytes that will be signed, before
the witnesses are asked and before the token does anything. So there is never a key or a signature
without a line, and a ceremony that was cut off goes on where it stopped, with the same keys and serials.
A later ceremony names an earlier one as `previous` and goes on with its keys, CRL numbers and revocations.

`script`, `transcript`, `holdings` and `verify` need no HSM; `steps` and `run` do.
"""
