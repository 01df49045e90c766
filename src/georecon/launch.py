"""Public name of :mod:`georecon.jobs.launch`, for ``python -m georecon.launch``."""

import sys

from georecon.jobs.launch import main

if __name__ == "__main__":
    sys.exit(main())
