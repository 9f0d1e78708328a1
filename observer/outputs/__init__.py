"""Results out: files, terminal.  Sees only tables, never packets."""
