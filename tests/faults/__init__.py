"""Injected faults: thousands of seeded ways to go wrong, and what came of each. `python -m tests.faults --help`.

A module for each kind has `prepare(rng, folder)`, which makes a fault in an empty folder, always the same for the same numbers,
and hands back what it is and how to try it. `outcome` has the words for what comes of it, `pool` tries faults in processes that
are ended when they hang, and `report` counts. A new kind is a module and a line in `kinds`.
"""
