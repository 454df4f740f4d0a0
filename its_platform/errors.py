"""What can go wrong, in two families.

A `PermanentError` will not go away by trying again (bad input, a gate not passed, a corrupt model): it is
told at once, with what a person should do. A `TransientError` (a server that is away, a lock that is held) is
retried with back-off. Each stage derives its own errors from one of the two; nothing else is raised on purpose.
"""


class ItsError(Exception):
    """Base of every error that the platform raises on purpose.

    `message` is one line that says what is wrong; `hint` is one line that says what to do next.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class PermanentError(ItsError):
    """Trying again gives the same answer; a person or another input is needed."""


class TransientError(ItsError):
    """Trying again later may succeed."""


class BadInput(PermanentError):
    """What was handed in cannot be used: a broken video, a wrong label, an unknown camera."""


class NotFound(PermanentError):
    """The thing that was named does not exist."""


class GateNotPassed(PermanentError):
    """A model version was asked to go where its gates do not let it."""


class ServerUnavailable(TransientError):
    """A server did not answer."""


class LeaseHeld(TransientError):
    """Someone else is doing this right now."""
