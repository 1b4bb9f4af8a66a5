"""Namespaces: tenants of one server."""
