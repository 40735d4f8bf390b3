"""What the repairs raise."""


class CannotRepair(Exception):
    """The model stays as it is; the text says why."""
