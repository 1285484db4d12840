"""The realistic benchmark: applications with databases, in several frameworks."""
