"""`python -m gradserve.cli`: the same as the command `gradserve`."""

import sys

from gradserve.cli import main

sys.exit(main())
