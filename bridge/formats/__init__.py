"""The formats that alerts come in, read into records, and records read into the fields of our own alert.

Pure: nothing here does I/O or looks at a clock. What comes in is untrusted and its length is bounded by whoever calls;
each parser looks at every character a fixed number of times, so that no text takes longer than its length allows.
"""
