"""Run geofence as ``python -m geofence``."""

import sys

from geofence.cli import main

if __name__ == "__main__":
    sys.exit(main())
