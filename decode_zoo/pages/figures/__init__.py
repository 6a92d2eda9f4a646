"""Pictures, one module a kind of result."""
