"""The `kerastag` command: one module per verb."""
