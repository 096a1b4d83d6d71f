"""Drills: an owner who is on a host by SSH does what locks people out, and is not locked out."""
