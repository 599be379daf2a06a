"""`python -m byrote`."""

import sys

from byrote.cli import main

sys.exit(main())
