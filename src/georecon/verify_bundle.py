"""Public name of :mod:`georecon.audit.verify_bundle`, for ``python -m georecon.verify_bundle``."""

import sys

from georecon.audit.verify_bundle import main

if __name__ == "__main__":
    sys.exit(main())
