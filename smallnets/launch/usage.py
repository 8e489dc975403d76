class UsageError(Exception):
    """What the user can mend: one line with the rule, the values and the fix."""

    def __init__(self, message: object):
        super().__init__(" ".join(str(message).split()))
