"""The verbs, a module each: ``run`` does it and gives the exit status."""
