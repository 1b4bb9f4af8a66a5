"""Entities, aliases, groups, identity tokens and the OIDC provider."""
