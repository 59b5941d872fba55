"""Layer `watch`: health verdicts, resource figures, reading logs."""
