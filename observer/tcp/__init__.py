"""TCP itself: states, evidence, flow table, tracker.  No I/O, no clock, no pandas.  See states.py for the theory."""
