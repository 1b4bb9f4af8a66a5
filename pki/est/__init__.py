"""Enrollment over Secure Transport (RFC 7030, as RFC 8951 clarifies it): certificates for devices that speak no API.

Promises: nobody enrols without proof: a token of this server, an EST password of this mount, or a certificate that
this mount issued and that still stands; a token needs the same policy here as anywhere. What is issued goes the
road of `sign/:role`, with the role's rules. Who proves itself by a certificate alone renews that one and gets no other: same
subject, same alternative names, same role.
"""
