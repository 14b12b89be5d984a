"""The protocols made for speed, and what only they need."""
