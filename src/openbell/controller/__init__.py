"""The controller: supervises services, runs procedures, grants the permit, serves the API."""
