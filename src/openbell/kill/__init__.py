"""The path that stops the desk when nothing else works: latch, freeze, cancel, verify, end.

Used by the guard and, without it, by the command line. It knows the desk file, the latch and the
venues; no engine, database, bus or web framework (an import contract says so).
"""
