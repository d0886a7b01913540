"""The domain: alerts, facts, the decision table, guardrails, decisions and the case record.

Pure: no I/O, no clock, no Temporal. Times are handed in, always aware and in UTC.
"""
