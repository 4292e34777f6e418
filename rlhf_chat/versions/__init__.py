"""Adapter versions: their files, which one is live, and their results in blind votes."""
