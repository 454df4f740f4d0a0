"""Reads a camera's source address.

Enters: the text that a person gave (`sim://junction?seed=7`, `file:///footage/a.mp4?start=2026-05-01T08:00:00Z`,
`folder:///footage/a`, `rtsp://host/stream`, or a plain path). Leaves: an `Address`. Opening the source belongs to
`frames.sources`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from its_platform.errors import BadInput

Kind = Literal["file", "folder", "rtsp", "sim"]

# What cameras without a log-in of RTSP's own take in the path: ?user=admin&password=…
SECRET_OPTION = re.compile(r"((?:pass|passwd|password|pwd|token|secret|key)=)[^&?/]*", re.I)
OPTIONS_OF_A_FILE = ("start", "weather")
OPTIONS_OF_A_FOLDER = (*OPTIONS_OF_A_FILE, "time", "format")
SCHEMES = "file://, folder://, rtsp://, rtsps:// and sim://, or the path of a video or a folder"


@dataclass(frozen=True, slots=True)
class Address:
    """A source address in its parts.

    location: the path (file, folder), the view (sim) or the whole address without its options (rtsp).
    options: the query: `start` (file, folder), `weather`, `time` and `format` (folder), `seed` (sim).
    """

    kind: Kind
    location: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return Path(self.location)

    def time(self, name: str) -> datetime | None:
        """An option that is an ISO time; UTC where it names no zone. Raises `BadInput`."""
        text = self.options.get(name)
        if text is None:
            return None
        try:
            # A '+' before the zone arrives as a space from a query.
            moment = datetime.fromisoformat(text.strip().replace(" ", "+") if "T" in text else text)
        except ValueError:
            raise BadInput(f"{name}={text!r} is not a time.", "Write it like 2026-05-01T08:00:00Z.") from None
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def parse_address(source: str) -> Address:
    """The parts of a source address. Raises `BadInput` for one that no reader understands."""
    text = source.strip()
    if not text:
        raise BadInput("A camera needs a source address.", f"Known are {SCHEMES}.")
    if "\x00" in text:
        raise BadInput("A source address cannot hold a NUL character.")
    if "://" not in text:
        path = Path(text)
        return Address("folder" if path.is_dir() else "file", str(path))
    scheme = text.split("://", 1)[0].lower()
    if scheme in ("rtsp", "rtsps"):
        _checked_rtsp(text)
        _check_server(text)
        return Address("rtsp", text)
    parts = urlsplit(text)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if scheme == "sim":
        view = parts.netloc or parts.path.strip("/")
        if not view:
            raise BadInput(f"{source!r} names no view.", "Write it like sim://junction.")
        return Address("sim", view, options)
    if scheme in ("file", "folder"):
        location = unquote(parts.netloc + parts.path, errors="surrogateescape")
        if not location.strip("/"):
            raise BadInput(f"{source!r} names no path.", f"Write it like {scheme}:///footage/camera.mp4.")
        return Address("folder" if scheme == "folder" or Path(location).is_dir() else "file", location, options)
    raise BadInput(f"{scheme!r} is not a kind of source.", f"Known are {SCHEMES}.")


def check_options(address: Address) -> None:
    """Raise `BadInput` for an option of a video or a folder that no reader asks for, or that cannot be used.

    Frames are never changed: those of a camera whose `start` is mistyped would keep their wrong times.
    """
    if address.kind not in ("file", "folder"):
        return
    # What is not there yet may become a folder.
    known = OPTIONS_OF_A_FILE if address.path.is_file() else OPTIONS_OF_A_FOLDER
    unknown = [name for name in address.options if name not in known]
    if unknown:
        raise BadInput(f"There is no option {unknown[0]!r} of such a source.", f"There are {', '.join(known)}.")
    address.time("start")
    try:
        re.compile(address.options.get("time", ""))
    except re.error as error:
        raise BadInput(f"time={address.options['time']!r} is not a regular expression: {error}.") from error


def _check_server(text: str) -> None:
    """Raise `BadInput` unless the address names a host, and a port that there is. A password stays out of the words."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadInput(f"The stream's port or host cannot be: {error}.", "Write rtsp://host:554/stream.") from error
    if not host or port == 0:
        raise BadInput("The stream's address names no host or the port 0.", "Write rtsp://host:554/stream.")


def normal_source(source: str) -> str:
    """The address as it is stored: plain paths made absolute, so that it means the same from any folder.

    Bytes of a name that are not UTF-8 are percent-encoded, since no database column takes them.
    """
    address = parse_address(source)
    if address.kind in ("sim", "rtsp"):
        return source.strip()
    absolute = quote(str(address.path.expanduser().absolute()).encode("utf-8", "surrogateescape"))
    scheme = "folder" if address.kind == "folder" else "file"
    query = urlsplit(source).query if "://" in source else ""
    return f"{scheme}://{absolute}" + (f"?{query}" if query else "")


def public_source(source: str) -> str:
    """The address without user, password and secret options, for logs, tables and rows."""
    address = parse_address(source)
    if address.kind != "rtsp":
        return source
    scheme, rest = source.strip().split("://", 1)
    host, slash, path = rest.partition("/")
    if "@" in host:
        host = f"***@{host.rsplit('@', 1)[1]}"
    shown = SECRET_OPTION.sub(r"\1***", path)
    return f"{scheme}://{host}{slash}{shown}"


def with_password(source: str, password: str) -> str:
    """An rtsp address that names a user, with the password put in. Raises `BadInput` for any other address."""
    address = parse_address(source)
    scheme, _, rest = source.strip().partition("://")
    user, at, host = rest.partition("@")
    if address.kind != "rtsp" or not at or not user or ":" in user or "/" in user:
        raise BadInput("A password goes with an rtsp address that names the user alone.", "rtsp://user@host/stream")
    if not password:
        raise BadInput("The password is empty.")
    return f"{scheme}://{user}:{quote(password, safe='')}@{host}"


def has_password(source: str) -> bool:
    """Whether the address holds a password or a secret option."""
    shown = public_source(source)
    return shown != source and (SECRET_OPTION.search(source) is not None or ":" in source.split("://")[1].split("@")[0])


def _checked_rtsp(text: str) -> None:
    """Raise `BadInput` for an address whose user and password no reader would find, without telling them."""
    host, _, path = text.split("://", 1)[1].partition("/")
    name = host.rsplit("@", 1)[-1]
    if not name or name.startswith(":"):
        raise BadInput("This rtsp address names no host.", "Write it like rtsp://user@10.0.0.7:554/stream.")
    bare = re.sub(r"^\[.*\]", "", name)
    port = bare.rpartition(":")[2] if ":" in bare else ""
    if (port and not port.isdigit()) or ("@" not in host and ":" in host and "@" in path):
        raise BadInput(
            "This rtsp address cannot be read: is there a '/' or a ':' in the password?",
            "Name the user alone and pass --password-stdin, or write '/' as %2F and ':' as %3A.",
        )
