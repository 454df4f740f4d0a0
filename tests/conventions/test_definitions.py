"""The code location holds what the documents say, each thing described and owned."""

from __future__ import annotations

import json

import dagster as dg

import assets
from assets.marts import GRAPH
from its_platform.definitions import build_defs
from its_platform.monitoring.marts import parse_project

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
    "stg_frames": "marts",
    "stg_labels": "marts",
    "stg_label_boxes": "marts",
    "stg_predictions": "marts",
    "stg_releases": "marts",
    "frames_by_camera_day": "marts",
    "label_throughput": "marts",
    "class_balance_by_day": "marts",
    "detections_by_camera_class_hour": "marts",
    "model_versions_in_use": "marts",
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
    specs = [spec for checks in assets.ALL_CHECKS for spec in checks.check_specs]
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
    assert jobs == {"ingest", "learn", "release", "watch", "reconcile", "canary", "experiment", "marts"}
    names = {sensor.name for sensor in defs.sensors or []}
    assert names == {"footage_sensor", "predictions_sensor", "drift_sensor", "registry_sensor", "canary_sensor"}
    assert {schedule.name for schedule in defs.schedules or []} == {"marts_schedule"}


def test_the_marts_come_from_what_the_stages_wrote_and_nothing_in_the_loop_waits_for_them():
    graph = build_defs().resolve_asset_graph()
    upstream = {
        parent.to_user_string()
        for name, group in ASSETS.items()
        if group == "marts"
        for parent in graph.get(dg.AssetKey(name)).parent_keys
    }
    assert {name for name in upstream if ASSETS[name] != "marts"} == {
        "raw_frames",
        "reviewed_labels",
        "prediction_log",
        "production_release",
    }
    for name, group in ASSETS.items():
        if group != "marts":
            parents = {parent.to_user_string() for parent in graph.get(dg.AssetKey(name)).parent_keys}
            assert all(ASSETS[parent] != "marts" for parent in parents), name


def test_the_kept_graph_of_the_marts_is_what_dagster_dbt_says_of_the_models(settings):
    from assets.dbt_graph import graph_of

    assert json.loads(GRAPH.read_text("utf-8")) == graph_of(parse_project(settings)), "run `make docs`"


def test_a_resource_can_be_replaced():
    other = dg.ResourceDefinition.hardcoded_resource("other")
    assert build_defs({"stores": other}).resources["stores"] is other
