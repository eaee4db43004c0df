"""Sizewise: find, make, prove and serve the language model that is the right size for your work."""
