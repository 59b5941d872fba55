"""The guard: the independent process that can always stop the desk."""
