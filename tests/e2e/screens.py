"""Drives headless Chromium over the pages that `its up` serves, checks what they say, and saves pictures of them.

Run as a program (`make screens`), it does so for the home folder in force.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from its_platform.alerting.access import USER, password_file
from its_platform.pages import page_address
from its_platform.settings import Settings, load_settings

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(frozen=True)
class Screen:
    """A page, the texts that have to stand on it, and the name of its picture."""

    name: str
    address: str
    texts: tuple[str, ...]


def screens_of(settings: Settings) -> list[Screen]:
    dagster = page_address(settings, settings.ports.dagster)
    mlflow = page_address(settings, settings.ports.mlflow)
    evidently = page_address(settings, settings.ports.evidently)
    return [
        Screen("dagster-assets", f"{dagster}/asset-groups", ("Global asset lineage", "monitoring", "release")),
        Screen("dagster-candidate", f"{dagster}/assets/candidate_model", ("candidate_model", "by slice")),
        Screen("dagster-drift", f"{dagster}/assets/drift_report", ("drift_report", "verdict")),
        Screen("dagster-gates", f"{dagster}/assets/staged_release?view=checks", ("gates_are_passed",)),
        Screen("dagster-runs", f"{dagster}/runs", ("learn", "watch", "ingest")),
        Screen("mlflow-models", f"{mlflow}/#/models", ("traffic-detector",)),
        Screen("mlflow-versions", f"{mlflow}/#/models/traffic-detector", ("Version 2", "production")),
        Screen("evidently", evidently, ("traffic_detector",)),
        *watching_screens(settings),
        Screen("report", (settings.home / "demo" / "report.html").as_uri(), ("The loop closed", "Drift", "Timeline")),
    ]


def watching_screens(settings: Settings) -> list[Screen]:
    """The pages of Prometheus and Alertmanager, where they are parts."""
    if not settings.runs_prometheus:
        return []
    # Where Debian's build has its pages.
    prometheus = f"https://{settings.host}:{settings.ports.prometheus}/classic"
    return [
        Screen("prometheus-targets", f"{prometheus}/targets", ("its (1/1 up)", "alertmanager (1/1 up)")),
        Screen("prometheus-alerts", f"{prometheus}/alerts", ("TritonDown", "CertificateEnds", "NoFramesFromCamera")),
        Screen("prometheus-graph", f"{prometheus}/graph?g0.expr=its_part_memory_bytes&g0.tab=1", ("supervisor",)),
        Screen(
            "alertmanager", f"https://{settings.host}:{settings.ports.alertmanager}/", ("Alertmanager", "version 0.")
        ),
    ]


def find_chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def shoot(settings: Settings, folder: Path, screens: Sequence[Screen] | None = None) -> dict[str, list[str]]:
    """Save one picture a screen (all of them by default); returns the texts that were missing, by screen."""
    from playwright.sync_api import TimeoutError as Late
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    missing: dict[str, list[str]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(QUIET))
        page = browser.new_page(viewport={"width": 1440, "height": 900}, **_welcome(settings))
        for screen in screens_of(settings) if screens is None else screens:
            page.goto(screen.address, wait_until="domcontentloaded")
            absent = []
            for text in screen.texts:
                try:
                    page.get_by_text(text).first.wait_for(state="attached", timeout=15_000)
                except Late:
                    absent.append(text)
            page.wait_for_timeout(1_500)  # pictures inside the page are drawn after its text
            page.screenshot(path=folder / f"{screen.name}.png", full_page=screen.name == "report")
            missing[screen.name] = absent
        browser.close()
    return missing


def _welcome(settings: Settings) -> dict[str, Any]:
    """What opens pages that show this home's certificate, or want a password."""
    if not settings.uses_certificates:
        return {}
    # Chromium takes authorities from the system alone, and this home's is nobody else's. That the certificate is the
    # right one is what tests/integration/test_listening.py asks.
    opened: dict[str, Any] = {"ignore_https_errors": True}
    if settings.runs_prometheus:
        opened["http_credentials"] = {"username": USER, "password": password_file(settings).read_text()}
    return opened


def main() -> int:
    """Exit code 1 where a page lacks a text that it has to show."""
    settings = load_settings()
    folder = settings.home / "screens"
    missing = {name: texts for name, texts in shoot(settings, folder).items() if texts}
    for name, texts in missing.items():
        sys.stderr.write(f"{name} does not show {', '.join(texts)}\n")
    sys.stdout.write(f"pictures: {folder}\n")
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
