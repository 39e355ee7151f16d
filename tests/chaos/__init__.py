"""Chaos: the whole service in real processes, faults drawn from a seed, and what must hold all the while.

`python -m tests.chaos --faults N --seed S` (`make chaos`). Read in this order: `run` (the story),
`stack` (the parts), `faults` (what strikes them), `history` (what was seen), `invariants` (what must hold).
"""
