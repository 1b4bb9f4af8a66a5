"""Drills: what is measured or broken for longer than a test may take. Each is run by a script of its name."""
