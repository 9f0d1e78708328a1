"""`python -m observer` is the command `observer`."""

import sys

from observer.cli import main

sys.exit(main())
