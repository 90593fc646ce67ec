"""The one kind of error that is the user's to mend."""


class SettingError(ValueError):
    """A setting or a file that cannot be used; the message names it and the remedy in one sentence.

    The command line prints the message without a traceback. Any other exception is a defect of ours.
    """
