"""From declarations to what the C core runs: plans, hooks, shapes, the table of routes."""
