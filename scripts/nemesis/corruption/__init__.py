"""Corruptions of a probing dataset, and how corrupted images are stored."""
