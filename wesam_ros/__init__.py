"""Segment what a robot is about to grasp, and get better at it on the robot's own table, without labels."""

__version__ = "0.1.0"
