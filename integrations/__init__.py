"""Vendor clients. Each is usable without Temporal and is tested against real wire protocols."""
