"""A checkpoint is a stranger's program: nothing of it runs before it is known to be a detector."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest

from its_platform.errors import BadInput
from its_platform.model.export import inference_network
from its_platform.offline import prepare_ultralytics
from its_platform.settings import STARTER_WEIGHTS
from its_platform.weights import check_weights


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_the_checkpoint_that_the_platform_brings_is_one() -> None:
    check_weights(STARTER_WEIGHTS)
    assert inference_network(STARTER_WEIGHTS)[1] in {"anchors", "end2end"}


def test_a_file_that_changes_after_the_first_look_still_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "was-run"
    with zipfile.ZipFile(tmp_path / "swapped.pt", "w") as archive:
        archive.writestr("swapped/data.pkl", pickle.dumps({"model": Touch(trace)}, 2))
        archive.writestr("swapped/version", "3\n")
    monkeypatch.setattr("its_platform.model.export.check_weights", lambda path: None)
    with pytest.raises(BadInput, match="Ultralytics family"):
        inference_network(tmp_path / "swapped.pt")
    assert not trace.exists()


def test_an_activation_in_a_checkpoint_is_never_evaluated(tmp_path: Path) -> None:
    prepare_ultralytics(tmp_path)
    from ultralytics.nn.tasks import DetectionModel, yaml_model_load

    trace = tmp_path / "was-run"
    described = {**yaml_model_load("yolo11n.yaml"), "activation": f"open({str(trace)!r}, 'w')"}
    with pytest.raises(TypeError, match="activation"):
        DetectionModel(described, verbose=False)
    assert not trace.exists()


@pytest.mark.parametrize("by", ["torch.hub load", "posix system", "builtins eval", "torch.nn.modules.utils _pair"])
def test_only_what_a_detector_is_made_of_may_be_named(tmp_path: Path, by: str) -> None:
    module, name = by.split()
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", f"c{module}\n{name}\n.".encode())
    with pytest.raises(BadInput, match=rf"would call {module}\.{name}"):
        check_weights(tmp_path / "a.pt")
