"""Small first, large when needed: which prompts the small model may answer, at a stated risk."""

from sizewise.routing.calibrating import calibrate, chance_of

__all__ = ["calibrate", "chance_of"]
