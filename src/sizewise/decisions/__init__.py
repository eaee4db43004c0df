"""Classifiers: typed questions in, probabilities out; how they are fitted, calibrated and stored. Knows no service."""
