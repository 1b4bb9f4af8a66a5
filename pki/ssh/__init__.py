"""An SSH certificate authority: OpenSSH certificates for users and hosts, revocation, one-time passwords.

Promises: a CA key is born in the HSM and only signs there (unless an operator imports one, which is then a
software key); no certificate is valid for everybody, so one without principals is never signed; a certificate
is not a key, so none is accepted where a public key is asked for (CVE-2025-49825); what was revoked is in the
KRL when the answer to the revocation leaves.

The order of an issuance is that of the X.509 CA (pki.issuance): intent on record, signature in the HSM over
exactly those bytes, comparison, outcome with the certificate. Formats: OpenSSH's PROTOCOL.certkeys and
PROTOCOL.krl.
"""
