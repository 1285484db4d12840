"""The OpenAPI description of an application and the pages that show it."""
