"""Refuse a file that somebody else than root, or than us, could have written."""

import os
import stat
from pathlib import Path

from geofence.errors import ConfigError


def require_trusted_owner(path: Path) -> None:
    """Refuse a file that somebody else than root, or than us, could have written."""
    about = path.stat()
    group = about.st_mode & stat.S_IWGRP and about.st_gid not in (0, os.getegid())
    if about.st_uid not in (0, os.geteuid()) or group or about.st_mode & stat.S_IWOTH:
        raise ConfigError(
            f"{path}: others than root may write it",
            cure=f"chown root {path} && chmod go-w {path}",
        )
