"""Public name of :mod:`georecon.jobs.recover`, for ``python -m georecon.recover``."""

import sys

from georecon.jobs.recover import main

if __name__ == "__main__":
    sys.exit(main())
