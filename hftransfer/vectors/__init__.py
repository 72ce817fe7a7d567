"""Vectors of rows on disk, as `embed` leaves them: shards that are read without loading, and what a row was."""

from hftransfer.vectors.store import Vectors, Writer, is_vectors, open_vectors

__all__ = ["Vectors", "Writer", "is_vectors", "open_vectors"]
