"""The desk: the pages on which people see what waits, and answer it. It reads from Temporal and keeps nothing."""
