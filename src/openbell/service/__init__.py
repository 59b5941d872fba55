"""The service SDK: `/health`, `/ready`, `/metrics`, `/shutdown-status`, signals and logs in a few lines."""
