"""What can go wrong with a request, and how Triton's own errors are read. Nothing is sent here."""

from __future__ import annotations

from typing import Any

HINT = "Check that the server runs, and its address."
TRUST_HINT = "Check the server's certificate, and the authority that this client was given."
# How gRPC says that it never came to speak with a server; the last two of a name that leads nowhere.
NEVER_SENT = ("failed to connect", "connection refused", "errors resolving", "dns resolution failed")


class ClientError(Exception):
    """Base of every error that the client raises on purpose: what is wrong, and what to do next, a line each."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class BadRequest(ClientError):
    """What was handed in cannot be sent: no picture, a time without a zone. Nothing was sent."""


class Refused(ClientError):
    """The server answered, and said no: an unknown stage or version, a broken JPEG. Asking again changes nothing."""


class Unavailable(ClientError):
    """No answer came. `was_sent`: the server may have got the request. `is_endpoint_fault`: nothing lives there."""

    def __init__(self, message: str, hint: str = HINT, was_sent: bool = True, is_endpoint_fault: bool = True) -> None:
        super().__init__(message, hint)
        self.was_sent = was_sent
        self.is_endpoint_fault = is_endpoint_fault


def problem_of(error: Any, address: str, front: str) -> Unavailable | Refused:
    """Triton's error as one of ours. A process that died answers INTERNAL; another instance may still live."""
    status, message = str(error.status() or ""), message_of(error)
    # A call that only an administrator may make is refused with UNAVAILABLE too.
    if "UNAVAILABLE" in status and "restricted" not in message:
        said = message.lower()
        was_sent = not any(words in said for words in NEVER_SENT)
        if "handshake failed" in said:
            reason = message.rpartition("last error: ")[2]
            return Unavailable(f"No Triton that is trusted here answers at {address}: {reason}.", TRUST_HINT, False)
        if not was_sent or any(word in said for word in ("connect", "transport", "socket")):
            return Unavailable(f"No Triton answers at {address}.", was_sent=was_sent)
        return Unavailable(f"Triton at {address} cannot answer now: {message}", is_endpoint_fault=False)
    if f"unknown model: '{front}'" in message:
        # It is being loaded anew, or was never loaded.
        return Unavailable(
            f"Triton at {address} has no front loaded: {message}", was_sent=False, is_endpoint_fault=False
        )
    if "DEADLINE_EXCEEDED" in status or "CANCELLED" in status:
        return Unavailable(f"Triton at {address} did not answer.")
    if "not healthy" in message or "Stub process" in message:
        return Unavailable(f"An instance in Triton has died: {message}", is_endpoint_fault=False)
    return Refused(f"Triton refused: {message.rstrip('.')}.", "Ask for what is served; the message names it.")


def message_of(error: Any) -> str:
    return " ".join(str(error.message() or "").split())
