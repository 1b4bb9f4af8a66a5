"""sys/ beside the real server and under its own rules."""
