"""Dependencies and parameters: what a callable declares, and how a request gives it."""
