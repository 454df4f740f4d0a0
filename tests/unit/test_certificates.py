"""The files that `its certs` makes, who may read them, and what Triton and its clients are told of them."""

from __future__ import annotations

import ipaddress
import os
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner

from its_detector_client import BadRequest, Tls
from its_platform import processes
from its_platform.certificates import (
    Certificates,
    complete_certificates,
    ensure_certificates,
    make_certificates,
    make_client,
    missing_of,
    read_certificates,
    renew_certificates,
    what_expired,
)
from its_platform.cli.certs import app
from its_platform.errors import BadInput
from its_platform.private_files import write_file
from its_platform.serving import restricted_launch
from its_platform.serving.tls import ADMIN_HEADER, admin_headers, certificates_of, client_tls
from its_platform.settings import SecuritySettings, Settings
from tests.fakes import Crash


@pytest.fixture
def secured(settings: Settings) -> Settings:
    return settings.model_copy(update={"security": SecuritySettings(triton_tls=True)})


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_server_and_clients_are_signed_by_the_authority_and_the_server_has_its_names(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    make_certificates(folder, ["triton.example.org", "10.0.0.7"], days=30)
    root, server, client = (read(folder / f"{name}.pem") for name in ("ca", "server", "client"))
    for certificate in (server, client):
        certificate.verify_directly_issued_by(root)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["triton.example.org"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("10.0.0.7")]
    assert timedelta(days=29) < server.not_valid_after_utc - datetime.now(UTC) <= timedelta(days=30)


def test_keys_and_secret_are_their_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    make_certificates(folder, ["localhost"], days=1)
    private = [path for path in folder.iterdir() if path.suffix in {".key", ".secret"}]
    assert {path.name for path in private} == {"ca.key", "server.key", "client.key", "repository.secret"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}


def test_what_is_there_is_replaced_only_on_request(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["localhost"], days=1)
    before = read(tmp_path / "ca.pem")
    with pytest.raises(BadInput, match="there already"):
        make_certificates(tmp_path, ["localhost"], days=1)
    assert read(tmp_path / "ca.pem") == before
    make_certificates(tmp_path, ["localhost"], days=1, is_renewal=True)
    assert read(tmp_path / "ca.pem") != before


def test_what_replaces_all_has_the_names_that_clients_ask_by(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["localhost", "triton.example.org"], days=1)
    make_certificates(tmp_path, ["localhost", "10.0.0.7"], days=1, is_renewal=True)
    shown = {one.file.name: one for one in read_certificates(tmp_path)}
    assert shown["server.pem"].names == ["localhost", "triton.example.org", "10.0.0.7"]
    (tmp_path / "server.pem").write_text("damaged")
    make_certificates(tmp_path, ["localhost"], days=1, is_renewal=True)
    assert read_certificates(tmp_path)[-1].names == ["localhost"]


def test_a_renewal_keeps_the_authority_and_the_names(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["triton.example.org"], days=1)
    root, before = read(tmp_path / "ca.pem"), read(tmp_path / "server.pem")
    renew_certificates(tmp_path, ["10.0.0.7"], days=30)
    after = read(tmp_path / "server.pem")
    after.verify_directly_issued_by(root)
    assert read(tmp_path / "ca.pem") == root
    assert after.serial_number != before.serial_number
    shown = {one.file.name: one for one in read_certificates(tmp_path)}
    assert shown["server.pem"].names == ["triton.example.org", "10.0.0.7"]
    assert shown["server.pem"].days_left == 29
    (tmp_path / "ca.key").unlink()
    with pytest.raises(BadInput, match="no authority"):
        renew_certificates(tmp_path, [], days=30)


def test_what_is_missing_is_made_and_whoever_trusts_the_authority_goes_on_trusting_it(settings: Settings) -> None:
    files = ensure_certificates(settings)
    make_client(files.folder, "north", files.folder / "out", days=1)
    before = {path: path.read_bytes() for path in [*files.needed, files.key("ca")]}
    for lost in files.needed:
        lost.unlink()
        assert ensure_certificates(settings).needed == files.needed
        assert missing_of(files) == []
        # The pair of what is lost is made anew, all others stay.
        pair = {lost, lost.with_suffix(".key"), lost.with_suffix(".pem")} - {files.key("ca")}
        assert {path for path in before if path.read_bytes() != before[path]} <= pair
        for signed in (files.certificate("server"), files.certificate("client"), files.folder / "out" / "north.pem"):
            read(signed).verify_directly_issued_by(read(files.root))
            read(signed).verify_directly_issued_by(x509.load_pem_x509_certificate(before[files.root]))
        before = {path: path.read_bytes() for path in before}


def test_a_maker_that_is_killed_anywhere_leaves_what_the_next_one_completes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from its_platform import certificates

    def killed_after(count: int) -> Callable[..., None]:
        def write(path: Path, content: bytes, is_secret: bool = False) -> None:
            nonlocal count
            if count == 0:
                raise Crash
            count -= 1
            write_file(path, content, is_secret)

        return write

    files = Certificates(settings.certificates)
    for step in range(len(files.needed) + 1):
        for begin in (ensure_certificates, lambda settings: renew_certificates(files.folder, [], days=1)):
            monkeypatch.setattr(certificates, "write_file", killed_after(step))
            with suppress(Crash, BadInput):
                begin(settings)
            monkeypatch.setattr(certificates, "write_file", write_file)
            ensure_certificates(settings)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            for own in ("server", "client"):
                context.load_cert_chain(files.certificate(own), files.key(own))
                read(files.certificate(own)).verify_directly_issued_by(read(files.root))
        make_certificates(files.folder, ["localhost"], days=1, is_renewal=True)
        for path in files.folder.iterdir():
            path.unlink()


def test_a_lost_key_of_the_server_costs_it_none_of_its_names(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["triton.example.org"], days=1)
    (tmp_path / "server.key").unlink()
    complete_certificates(tmp_path, ["localhost"], days=1)
    (server,) = [one for one in read_certificates(tmp_path) if one.file.name == "server.pem"]
    assert server.names == ["triton.example.org", "localhost"]


def test_certificates_that_ended_are_named(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["localhost"], days=30)
    assert what_expired(tmp_path) == ""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    renew_certificates(tmp_path, [], days=1, since=yesterday - timedelta(days=1))
    assert f"{tmp_path / 'server.pem'} expired on {yesterday:%Y-%m-%d at %H:%M} UTC" in what_expired(tmp_path)
    assert "client.pem expired" in what_expired(tmp_path)
    assert "ca.pem" not in what_expired(tmp_path)


def test_an_authority_of_somebody_else_is_never_replaced(settings: Settings) -> None:
    files = ensure_certificates(settings)
    files.key("ca").unlink()
    files.key("client").unlink()
    with pytest.raises(BadInput, match=r"client\.key is missing"):
        ensure_certificates(settings)


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no certificates"):
        read_certificates(tmp_path)
    (tmp_path / "server.pem").write_text("nonsense")
    with pytest.raises(BadInput, match=r"server\.pem is no certificate"):
        read_certificates(tmp_path)


def test_a_live_system_gets_a_certificate_of_its_own_and_no_secret(tmp_path: Path) -> None:
    folder, out = tmp_path / "certificates", tmp_path / "north"
    with pytest.raises(BadInput, match="no authority") as told:
        make_client(folder, "north", out, days=1)
    assert "its certs make" in told.value.hint
    make_certificates(folder, ["localhost"], days=1)
    make_client(folder, "north", out, days=1)
    assert sorted(path.name for path in out.iterdir()) == ["ca.pem", "north.key", "north.pem"]
    read(out / "north.pem").verify_directly_issued_by(read(folder / "ca.pem"))
    with pytest.raises(BadInput, match="no name"):
        make_client(folder, "../north", out, days=1)


def test_without_tls_nothing_is_asked_for(settings: Settings) -> None:
    assert (certificates_of(settings), client_tls(settings), admin_headers(settings)) == (None, None, None)


def test_missing_files_name_the_command_that_makes_them(secured: Settings) -> None:
    with pytest.raises(BadInput, match="missing") as caught:
        certificates_of(secured)
    assert "its certs make" in caught.value.hint


def test_the_platforms_client_shows_its_certificate_and_the_secret(secured: Settings) -> None:
    make_certificates(secured.certificates, ["localhost"], days=1)
    tls = client_tls(secured)
    assert tls is not None
    assert tls.options()["certificate_chain"] == str(secured.certificates / "client.pem")
    assert admin_headers(secured) == {ADMIN_HEADER: (secured.certificates / "repository.secret").read_text()}


def test_a_client_is_told_which_file_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"root for TLS .* No such file"):
        Tls(tmp_path / "none.pem", tmp_path / "none.pem", tmp_path / "none.key")


def test_the_commands_make_the_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ITS_SECURITY__CERTIFICATES", str(tmp_path / "certificates"))
    made = CliRunner().invoke(app, ["make", "--name", "triton.example.org", "--json"])
    assert made.exit_code == 0, made.output
    names = read(tmp_path / "certificates" / "server.pem").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert "triton.example.org" in names.value.get_values_for_type(x509.DNSName)
    assert CliRunner().invoke(app, ["client", "north", "--out", str(tmp_path / "out")]).exit_code == 0
    assert (tmp_path / "out" / "north.pem").is_file()


def test_who_replaces_the_authority_under_running_servers_is_told_to_start_them_anew(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setenv("ITS_HOME", str(settings.home))
    monkeypatch.setenv("ITS_PROFILE", "services")
    made = CliRunner().invoke(app, ["make"])
    assert (made.exit_code, "its down" in made.stderr) == (0, False), made.output
    # A server that runs: this process will do.
    birth = processes.birth_of(os.getpid())
    processes.write_record(settings, processes.Record("redis", os.getpid(), birth, "", "", []))
    made = CliRunner().invoke(app, ["make", "--renew"])
    assert made.exit_code == 0, made.output
    assert "trusts, those of before: `its down`, `its up`" in made.stderr


def test_the_launcher_becomes_the_program_and_its_secret_leaves_the_process_list(tmp_path: Path) -> None:
    """The program has a second thread once it has read its options, as tritonserver has, and still knows the secret."""
    (tmp_path / "secret").write_text("a-long-secret\n")
    program = tmp_path / "server.py"
    program.write_text(
        "import sys, threading, time\nread = str(sys.argv[1:])\n"
        "threading.Thread(target=time.sleep, args=(20,), daemon=True).start()\n"
        "print('read' if 'a-long-secret' in read else read, flush=True)\ntime.sleep(20)\n"
    )
    command = [sys.executable, "-I", restricted_launch.__file__, str(tmp_path / "secret")]
    process = subprocess.Popen([*command, sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "read\n"
        shown = Path(f"/proc/{process.pid}/cmdline")
        end = time.monotonic() + 10
        while b"a-long-secret" in shown.read_bytes():
            assert time.monotonic() < end, "the secret stays in the process list"
            time.sleep(0.05)
        assert b"--grpc-restricted-protocol=" in shown.read_bytes()
    finally:
        process.kill()
        process.wait()
