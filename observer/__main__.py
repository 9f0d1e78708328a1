"""`python -m observer` is the command `observer`."""

import gc
import sys

gc.set_threshold(20_000, 50, 50)  # what start-up makes stays: looking for garbage meanwhile takes 12 ms of 215

from observer.cli import main  # noqa: E402

sys.exit(main())
