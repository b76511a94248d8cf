"""The one error that a user is meant to read."""


class InputError(Exception):
    """Something that the user gave is wrong: a file, a config key, a row.

    The message is one line that names it, says what was expected and what to do. A job
    prints that line without a traceback and ends with exit code 1.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(str(message).split()))
