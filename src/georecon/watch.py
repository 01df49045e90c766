"""Public name of :mod:`georecon.jobs.watch`, for ``python -m georecon.watch``."""

import sys

from georecon.jobs.watch import main

if __name__ == "__main__":
    sys.exit(main())
