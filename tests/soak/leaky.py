"""The server with a deliberate leak, to show that the soak sees one: `python -m soak.leaky` in place of `gradserve_server`.

Every gradient leaves a tensor of `GRADSERVE_LEAK_KIB` behind. Nothing of this is in the package.
"""

import os
import sys

from gradserve_server.__main__ import main
from gradserve_server.engine import Engine

KIB = int(os.environ.get("GRADSERVE_LEAK_KIB", "32"))
_kept: list[bytes] = []
_gradient = Engine.gradient


def _leaking(*arguments, **options):
    _kept.append(os.urandom(KIB * 1024))  # pages that are written, and no two alike
    return _gradient(*arguments, **options)


Engine.gradient = _leaking  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
