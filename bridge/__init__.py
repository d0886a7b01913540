"""What people and programs reach over HTTP: the analysts' desk, and the way in for a SIEM's alerts."""
