"""Artifacts: what is published, where it comes from, and models opened from it."""
