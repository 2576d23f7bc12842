"""The one error family of the lab; the command line turns it into exit code 2."""


class LabError(Exception):
    """The lab cannot do what was asked; the message is one sentence with the way out."""
