"""What geofence costs, side by side with what a user would use instead, in one run."""
