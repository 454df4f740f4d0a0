"""What the front counts, read where Prometheus reads it: Triton's own page of figures."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from figures_known import TRITON
from its_platform.serving.client import DetectorClient, ModelRefused, detect_once, with_client
from its_platform.serving.config import FRONT
from its_platform.serving.processes import stubs
from triton_site import PICTURE, Platform, running_platform, wait_until

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("figures")
    settings_file = folder / "home" / "settings.yaml"
    settings_file.parent.mkdir()
    settings_file.write_text("metrics: {cameras: 2}\n")
    os.environ["ITS_HOME"] = str(folder / "home")
    with running_platform(folder) as found:
        yield found
    os.environ.pop("ITS_HOME")


def figures(platform: Platform, name: str) -> dict[str, float]:
    """The values of a figure by its labels, as they are written."""
    address = f"http://127.0.0.1:{platform.settings.ports.triton_metrics}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = (re.fullmatch(rf"its_front_{name}{{(.*)}} (\S+)", line) for line in lines)
    return {match[1]: float(match[2]) for match in found if match}


def of(values: dict[str, float], *words: str) -> float:
    return sum(value for labels, value in values.items() if all(word in labels for word in words))


def settled(value: Callable[[], float]) -> float:
    """A figure once no instance adds to it any more: each does so every second."""
    before, now = -1.0, value()
    while now != before:
        time.sleep(1.5)
        before, now = now, value()
    return now


def test_answers_are_counted_by_stage_version_and_purpose(platform: Platform) -> None:
    for number in range(6):
        detect_once(platform.settings, PICTURE + number, camera_id="north")
    wait_until(lambda: of(figures(platform, "pictures_total"), 'purpose="live"') == 6)
    assert of(figures(platform, "pictures_total"), 'stage="production"', f'version="{platform.last}"', "live") == 6
    assert of(figures(platform, "answer_seconds_total"), "live") > 0
    assert of(figures(platform, "camera_pictures_total"), 'camera="north"') == 6
    assert 0 <= time.time() - of(figures(platform, "last_picture_timestamp_seconds"), "north") < 60


def test_identical_pictures_and_refusals_are_counted(platform: Platform) -> None:
    for _ in range(8):
        detect_once(platform.settings, PICTURE, camera_id="north")
    wait_until(lambda: of(figures(platform, "cached_pictures_total"), "live") >= 4)
    with pytest.raises(ModelRefused):
        detect_once(platform.settings, PICTURE, camera_id="north", version=77)
    wait_until(lambda: of(figures(platform, "refused_total"), "NOT_FOUND") >= 1)
    log = (platform.settings.logs / "triton.log").read_text(errors="replace")
    told = [json.loads(line) for line in log.splitlines() if line.startswith('{"process"')]
    refusals = [line for line in told if line["event"] == "refused" and line["camera"] == "north"]
    assert "version 77 is not served" in refusals[-1]["reason"]
    assert refusals[-1]["request"]
    # The fixture probed it before anything was released.
    assert not [line for line in told if line["camera"] == "probe"]


def test_cameras_beyond_the_number_share_a_figure(platform: Platform) -> None:
    for name in ("a", "b", "c", "d"):
        for number in range(4):
            detect_once(platform.settings, PICTURE + number, camera_id=name)
    wait_until(lambda: of(figures(platform, "camera_pictures_total"), "others") >= 1)
    # Each of the two instances knows two.
    assert len(figures(platform, "camera_pictures_total")) <= 5


def test_figures_go_on_after_an_instance_was_replaced(platform: Platform) -> None:
    before = settled(lambda: of(figures(platform, "pictures_total"), "live"))
    old = {stub.pid for stub in stubs(platform.settings) if stub.model == FRONT}
    (platform.settings.model_repository / FRONT / "1" / "model.py").touch()

    async def load(client: DetectorClient) -> None:
        await client.load(FRONT)

    with_client(platform.settings, load)
    wait_until(lambda: not old & {stub.pid for stub in stubs(platform.settings) if stub.model == FRONT}, 60)
    for number in range(4):
        detect_once(platform.settings, PICTURE + 100 + number, camera_id="north")
    # They go on from where they were, or anew; either way what was asked since is in them.
    wait_until(lambda: of(figures(platform, "pictures_total"), "live") in (4, before + 4))


def test_triton_tells_what_dashboards_ask_it_for(platform: Platform) -> None:
    detect_once(platform.settings, PICTURE, camera_id="north")
    address = f"http://127.0.0.1:{platform.settings.ports.triton_metrics}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        page = answer.read().decode()
    for name, labels in TRITON.items():
        told = re.findall(rf"^{name}{{(.*)}} ", page, re.MULTILINE)
        assert told, name
        assert all(labels <= set(re.findall(r'(\w+)="', one)) for one in told), name
