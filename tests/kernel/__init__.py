"""Facts about the kernel and what geofence does to it, proved on a real one."""
