"""Segment what a robot is about to grasp, and get better at it on the robot's own table, without labels."""

__version__ = "0.2.0"


def install_extra(name: str) -> str:
    """The remedy where the packages of an extra are missing. No index has this package, so its extras come from the checkout."""
    return f"install the extra from the checkout: pip install -e '.[{name}]'"
