"""MLflow's, Dagster's and Evidently's pages: how each comes to answer over TLS, and how the platform asks them.

All three are served by uvicorn, which has TLS; only MLflow's command passes its options on. The other two are started
by this module as a program, which adds them: `python -m its_platform.pages CERTIFICATE KEY PROGRAM …`, where PROGRAM is
a file, or `-m` and a module. What a page shows is its own business.
"""

from __future__ import annotations

import json
import logging
import runpy
import shlex
import ssl
import sys
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

from its_platform.certificates import ensure_certificates
from its_platform.settings import Settings

ASK_WITHIN_S = 5.0


def page_address(settings: Settings, port: int) -> str:
    """Where a page is opened."""
    return f"{'https' if settings.pages_tls else 'http'}://{settings.host}:{port}"


def ask_page(
    settings: Settings, port: int, path: str, question: object = None, within_s: float = ASK_WITHIN_S
) -> bytes:
    """What a page answers at a path, to a question in JSON where there is one.

    Raises `OSError` for no answer, for a refusal, and for a certificate that this home's authority did not sign.
    """
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]  # never through a proxy
    if settings.pages_tls:
        trust = ssl.create_default_context(cafile=str(ensure_certificates(settings).root))
        handlers.append(urllib.request.HTTPSHandler(context=trust))
    request = urllib.request.Request(f"{page_address(settings, port)}{path}")
    if question is not None:
        request.data = json.dumps(question).encode()
        request.add_header("Content-Type", "application/json")
    with urllib.request.build_opener(*handlers).open(request, timeout=within_s) as answer:
        content: bytes = answer.read()
    return content


def started_with_tls(settings: Settings, words: list[str]) -> list[str]:
    """What starts a Python program of this environment, its page over TLS where that is wanted.

    words: the program's file, or `-m` and its module, and what it is told.
    """
    if not settings.pages_tls:
        return [sys.executable, *words]
    return [sys.executable, "-m", "its_platform.pages", *_files(settings), *words]


def uvicorn_words(settings: Settings) -> list[str]:
    """What MLflow hands on to uvicorn, in one word of its command line; nothing without TLS."""
    if not settings.pages_tls:
        return []
    options = _options(*_files(settings)).items()
    return ["--uvicorn-opts", shlex.join(f"--{name.replace('_', '-')}={value}" for name, value in options)]


def renewing(config: Any, **words: Any) -> Any:
    """The HTTP protocol of one connection, as uvicorn asks for it before the greeting."""
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    show_renewed(config)
    protocol: Any = AutoHTTPProtocol
    return protocol(config=config, **words)


def show_renewed(config: Any) -> None:
    """Have uvicorn's context show the certificate that lies there now, from the next greeting on.

    One whose key does not fit yet, because the two are just being written, waits for the next connection.
    """
    files = (config.ssl_certfile, config.ssl_keyfile)
    try:
        written = tuple(Path(file).stat().st_mtime_ns for file in files)
        if _shown.get(config.ssl) != written:
            # Apart first: a pair that does not fit would spoil the one that is shown.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files)
            config.ssl.load_cert_chain(*files)
            _shown[config.ssl] = written
    except OSError as error:
        logging.getLogger("uvicorn.error").warning("the certificate of before is shown: %s", error)


# When the files were written that a context shows.
_shown: dict[ssl.SSLContext, tuple[int, ...]] = {}


def _files(settings: Settings) -> tuple[str, str]:
    files = ensure_certificates(settings)
    return str(files.certificate("server").absolute()), str(files.key("server").absolute())


def _options(certificate: str, key: str) -> dict[str, Any]:
    return {"ssl_certfile": certificate, "ssl_keyfile": key, "http": "its_platform.pages:renewing"}


def main(words: list[str]) -> None:
    """Run a Python program of this environment with uvicorn's part of it changed."""
    import uvicorn

    certificate, key, *rest = words
    uvicorn.run = partial(uvicorn.run, **_options(certificate, key))
    if rest[0] == "-m":
        sys.argv = rest[1:]
        runpy.run_module(rest[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = rest
        runpy.run_path(rest[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
