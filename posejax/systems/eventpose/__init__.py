"""Spacecraft 6-DoF pose from an event camera."""
