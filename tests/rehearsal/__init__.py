"""Rehearsals: what they catch, and what they let pass."""
