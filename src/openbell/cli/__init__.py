"""Layer `cli`: one module per command; results rendered as text or as one JSON document."""
