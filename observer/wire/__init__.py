"""Octets to columns: link layers, encapsulations, IP, TCP fields.  No memory of earlier packets but IP fragments."""

from observer.wire.decoder import Batch, Decoder, Skipped

__all__ = ["Batch", "Decoder", "Skipped"]
