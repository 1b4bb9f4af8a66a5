"""The CA's door in the Vault dialect: which path is which operation. It holds no rule of its own."""

from pki.http.routes import ROUTES

__all__ = ["ROUTES"]
