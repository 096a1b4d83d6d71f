"""Keep a Linux host open to the countries its owner serves, and closed to the rest."""

__version__ = "0.1.0"
