"""The auth method `ldap`: people of a directory, by their password there.

    names.py       one spelling of each name; filters from templates, with every value escaped; pure
    directory.py   the conversation with a server: TLS, binds, searches, within one deadline
    fields.py      fields of the configuration, of groups and of users
    method.py      login, and renewal, which asks the directory again

No password is kept, not even for renewals: those search with the operator's own account (`binddn`).
"""
