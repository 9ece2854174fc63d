"""One module a system: `python -m kerastag.recipes.NAME`."""
