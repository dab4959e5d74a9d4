"""A second implementation of docs/semantics.md: naive, independent of the engine, and used to check it."""
