"""The service about itself: instance, init, seal, mounts, health, root rotation.

Promises: a server is unsealed only after the HSM opened its keyring; a seal that was answered holds
across restarts until a quorum lifts it; init leaves either nothing usable or everything.
Never: touches a named key or a certificate.
"""
