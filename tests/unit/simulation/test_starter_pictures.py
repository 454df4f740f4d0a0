"""The starter's pictures need numpy and OpenCV alone, and have neither night nor fog."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]


def test_rendering_imports_nothing_but_numpy_and_opencv() -> None:
    code = (
        "import sys, its_platform.simulation;"
        "heavy = {'pydantic', 'av', 'sqlalchemy', 'pandas', 'torch', 'typer'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_script_writes_a_folder_that_yolo_reads(tmp_path: Path) -> None:
    script = REPOSITORY / "examples" / "starter" / "render.py"
    command = [sys.executable, str(script), "--frames", "6", "--workers", "1", "--out", str(tmp_path / "starter")]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=240)
    images = sorted((tmp_path / "starter" / "images").rglob("*.jpg"))
    labels = sorted((tmp_path / "starter" / "labels").rglob("*.txt"))
    assert len(images) >= 6
    assert [p.stem for p in images] == [p.stem for p in labels]
    rows = [line.split() for path in labels for line in path.read_text().splitlines()]
    assert rows
    for row in rows:
        assert 0 <= int(row[0]) <= 5
        assert all(0 <= float(value) <= 1 for value in row[1:])
    assert "train: images/train" in (tmp_path / "starter" / "data.yaml").read_text()


def test_the_script_knows_neither_night_nor_fog() -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("starter_render", REPOSITORY / "examples" / "starter" / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert {light for light, _ in module.CONDITIONS} == {"day", "dusk"}
    assert {weather for _, weather in module.CONDITIONS} == {"clear", "rain"}
