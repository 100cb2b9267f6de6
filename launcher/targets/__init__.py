"""The doors: each a way to get a place for a segment."""
