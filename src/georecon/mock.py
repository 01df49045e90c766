"""Public name of :mod:`georecon.jobs.mock`, for ``python -m georecon.mock``."""

import sys

from georecon.jobs.mock import main

if __name__ == "__main__":
    sys.exit(main())
