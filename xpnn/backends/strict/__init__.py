"""array-api-strict: the standard and nothing else, for tests."""
