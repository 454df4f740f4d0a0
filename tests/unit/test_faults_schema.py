"""What `make faults` writes keeps to the schema that the documents name."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from faults.record import FaultRecord, write_records

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "faults.json").read_text("utf-8"))


def written(tmp_path: Path, *records: FaultRecord) -> list[dict]:
    write_records(tmp_path / "faults.json", records)
    return json.loads((tmp_path / "faults.json").read_text("utf-8"))


def test_records_keep_to_the_schema(tmp_path: Path) -> None:
    kept = FaultRecord("kill -9", "triton", "services", True, 12.5, 20, 1, 0, 3, "Triton: has died", True)
    broken = FaultRecord("kill -9", "database", "embedded")
    rows = written(tmp_path, kept, broken)
    jsonschema.validate(rows, SCHEMA)
    assert rows[0]["failed_requests"] == 3
    assert rows[1]["recovered_s"] is None


@pytest.mark.parametrize("spoilt", [{"missing": -1}, {"doctor_named": "yes"}, {"began": 1.0}])
def test_the_schema_refuses_what_is_not_a_record(tmp_path: Path, spoilt: dict) -> None:
    rows = written(tmp_path, FaultRecord("kill -9", "triton", "embedded"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate([{**rows[0], **spoilt}], SCHEMA)
