"""The benchmark's parts: cases, servers, measuring, reporting."""
