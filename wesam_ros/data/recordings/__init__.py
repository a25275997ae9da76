"""Recordings: bags, their topics and messages."""
