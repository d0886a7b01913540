"""Stand-ins that speak the vendors' wire protocols on loopback, and keep state; for the demo and the tests only."""
