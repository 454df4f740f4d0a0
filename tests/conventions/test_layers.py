"""The layers are a file that a check enforces."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_stage_imports_only_what_comes_before_it():
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports")], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_importing_the_code_location_loads_nothing_heavy():
    heavy = (
        "('torch', 'ultralytics', 'mlflow', 'evidently', 'great_expectations', 'pandas', 'cv2', 'dagster_dbt', 'dbt')"
    )
    code = f"import sys, its_platform.definitions; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().splitlines()[-1] == "[]", done.stdout + done.stderr


def test_the_folder_for_dbt_is_never_a_package():
    assert not (ROOT / "dbt" / "__init__.py").exists()
