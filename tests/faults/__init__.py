"""Every step that can fail, failing."""
