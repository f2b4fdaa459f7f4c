"""From a request to a plan. Pure: no file, no session."""
