"""Leases, below the doors and through them."""
