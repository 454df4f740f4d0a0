"""The code location holds what the documents say, each thing described and owned."""

from __future__ import annotations

import dagster as dg

from its_platform.definitions import build_defs

ASSETS = {
    "raw_frames": "frames",
    "reviewed_labels": "labels",
    "dataset_version": "dataset",
    "candidate_model": "model",
    "staged_release": "release",
    "production_release": "release",
    "reference_predictions": "monitoring",
    "prediction_log": "monitoring",
    "drift_report": "monitoring",
}


def test_each_stage_has_its_assets_described_owned_and_of_a_kind():
    graph = build_defs().resolve_asset_graph()
    found = {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys()}
    assert {name: node.group_name for name, node in found.items()} == ASSETS
    for name, node in found.items():
        assert node.description, name
        assert node.owners, name
        assert node.kinds, name


def test_the_checks_that_guard_a_stage_block_what_follows():
    specs = [spec for checks in build_defs().asset_checks or [] for spec in checks.check_specs]
    assert {spec.name for spec in specs} == {
        "frames_are_sound",
        "labels_are_sound",
        "dataset_is_sound",
        "gates_are_passed",
    }
    assert all(spec.blocking for spec in specs)


def test_jobs_and_sensors_are_those_of_the_loop():
    defs = build_defs()
    jobs = {job.name for job in defs.resolve_all_job_defs() if not job.name.startswith("__")}
    assert jobs == {"ingest", "learn", "watch", "reconcile"}
    names = {sensor.name for sensor in defs.sensors or []}
    assert names == {"footage_sensor", "predictions_sensor", "drift_sensor", "registry_sensor"}


def test_a_resource_can_be_replaced():
    other = dg.ResourceDefinition.hardcoded_resource("other")
    assert build_defs({"stores": other}).resources["stores"] is other
