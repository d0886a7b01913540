"""Benchmarks: each figure a ratio within one run on one machine. ``python -m benchmarks`` runs them, see ``docs/``."""
