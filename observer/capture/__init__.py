"""Octets in: capture files, compressed files, pipes, several files as one.  Yields Chunks; knows no protocol."""
