"""Facts about geofence, each with a name; the kernel ones in a private network namespace."""
