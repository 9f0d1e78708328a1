"""Octets to columns: link layers, encapsulations, IP, TCP fields.  No memory of earlier packets but IP fragments."""
