"""Layer `state`: the desk database and journal, checkpoints, the audit log, halts, tokens."""
