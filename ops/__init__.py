"""How it is run: the CLI, the all-in-one stack, demo, bench."""
