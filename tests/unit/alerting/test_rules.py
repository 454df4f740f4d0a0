"""The rules that the running Prometheus reads, asked by its own tool: when each alert fires, and when it does not."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from its_platform.alerting.prometheus import RULES
from its_platform.cli import ENTRIES, load_command
from needs import need_prometheus

FILES = sorted(RULES.glob("*.yaml"))
ALERTS = {
    rule["alert"]: rule
    for file in FILES
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
}


class Case(NamedTuple):
    """Series of one value each 15 s, as promtool writes them, the moment to look, and the labels of what then fires."""

    series: dict[str, str]
    at: str
    fires: tuple[dict[str, str], ...] = ()


MLFLOW, NORTH = 'its_part_up{part="mlflow"}', 'its_front_last_picture_timestamp_seconds{camera="north"}'
SOUTH, TRITON = NORTH.replace("north", "south"), 'up{job="triton",part="triton"}'
CASES: dict[str, tuple[Case, Case]] = {
    "ExporterDown": (
        Case({'up{job="its"}': "1x8 0x40"}, "4m", ({"job": "its"},)),
        Case({'up{job="its"}': "1x8 0x2 1x40"}, "4m"),
    ),
    "TritonDown": (
        Case(
            {'up{job="triton",part="triton"}': "1x8 0x40", 'its_part_up{part="triton-2"}': "1x8 0x40"},
            "4m",
            ({"job": "triton", "part": "triton"}, {"part": "triton-2"}),
        ),
        Case({'up{job="triton",part="triton"}': "1x40", 'its_part_up{part="triton"}': "1x8 0x2 1x40"}, "4m"),
    ),
    "PartDown": (
        Case(
            {MLFLOW: "0x50", 'its_part_uptime_seconds{part="mlflow"}': "0+15x50", 'its_part_up{part="triton"}': "0x50"},
            "4m",
            ({"part": "mlflow"},),
        ),
        # Missed once; and one that is still starting.
        Case(
            {
                MLFLOW: "1x8 0 1x40",
                'its_part_up{part="dagster"}': "0x50",
                'its_part_uptime_seconds{part="dagster"}': "0+5x50",
            },
            "2m30s",
        ),
    ),
    "PartRestarting": (
        Case({'its_part_restarts_total{part="mlflow"}': "0x4 1x4 2x4 3x80"}, "10m", ({"part": "mlflow"},)),
        # Twice; Prometheus makes more of it, for the first sample of the quarter is missing.
        Case({'its_part_restarts_total{part="mlflow"}': "5x39 _ 5x9 6x9 7x80"}, "25m"),
    ),
    "StoreAway": (
        Case({'its_store_up{store="objects"}': "1x8 0x40"}, "4m", ({"store": "objects"},)),
        Case({'its_store_up{store="objects"}': "1x50"}, "4m"),
    ),
    "ReadsFailing": (
        Case({'its_metrics_read_errors_total{read="runs"}': "0+1x100"}, "20m", ({"read": "runs"},)),
        Case({'its_metrics_read_errors_total{read="runs"}': "0x20 3x100"}, "20m"),
    ),
    "NoFramesFromCamera": (
        # Triton was started again, and has heard nothing of the one in the south since.
        Case(
            {NORTH: "600x100", SOUTH: "600x50 stale", TRITON: "1x50 0x2 1x50"},
            "20m",
            ({"camera": "north"}, {"camera": "south"}),
        ),
        Case({NORTH: "0+15x100", SOUTH: "_x100", TRITON: "1x100"}, "20m"),
    ),
    "StreamNotTakenIn": (
        Case(
            {'its_camera_taken_timestamp_seconds{camera="north",kind="rtsp"}': "60x1000"},
            "2h",
            ({"camera": "north", "kind": "rtsp"},),
        ),
        # A file is taken in once.
        Case({'its_camera_taken_timestamp_seconds{camera="film",kind="file"}': "60x1000"}, "2h"),
    ),
    "QueueGrowing": (
        Case({'its_spool_files{log="pairs"}': "200+10x200"}, "30m", ({"log": "pairs"},)),
        Case({'its_spool_files{log="pairs"}': "2000-10x200"}, "30m"),
    ),
    "LogRowsLost": (
        Case({'its_front_lost_rows_total{log="predictions"}': "0x20 7x40"}, "8m", ({"log": "predictions"},)),
        Case({'its_front_lost_rows_total{log="predictions"}': "7x60"}, "8m"),
    ),
    "Drift": (
        Case({'its_drift_is_drifted{version="3"}': "1x20"}, "4m", ({"version": "3"},)),
        Case({'its_drift_is_drifted{version="3"}': "0x20"}, "4m"),
    ),
    "GatesFailed": (
        Case({'its_gate_results_total{verdict="failed"}': "0x20 2x40"}, "8m", ({"verdict": "failed"},)),
        Case({'its_gate_results_total{verdict="passed"}': "0x20 9x40"}, "8m"),
    ),
    "RunsFailing": (
        Case({'its_dagster_runs{status="FAILURE"}': "5x20 9x40"}, "10m", ({"status": "FAILURE"},)),
        Case(
            {'its_dagster_runs{status="FAILURE"}': "5x20 6x40", 'its_dagster_runs{status="SUCCESS"}': "0+5x60"}, "10m"
        ),
    ),
    "RunsQueued": (
        Case({"its_dagster_queue_wait_seconds": "0+15x200"}, "40m", ({},)),
        Case({"its_dagster_queue_wait_seconds": "0+15x100 0x100"}, "40m"),
    ),
    "DiskFillsUp": (
        Case({'its_disk_free_bytes{folder="/data"}': "2e9x20"}, "4m", ({"folder": "/data"},)),
        Case({'its_disk_free_bytes{folder="/data"}': "8e9x20"}, "4m"),
    ),
    "CertificateEnds": (
        Case(
            {'its_certificate_expiry_timestamp_seconds{certificate="server"}': "864000x20"},
            "4m",
            ({"certificate": "server"},),
        ),
        Case({'its_certificate_expiry_timestamp_seconds{certificate="server"}': "8640000x20"}, "4m"),
    ),
    "BackupLate": (
        Case({"its_backup_newest_timestamp_seconds": "0x100", "its_backup_due_seconds": "600x100"}, "16m", ({},)),
        # Made again while it was late; and none at all, which is told by another.
        Case(
            {"its_backup_newest_timestamp_seconds": "0x50 780x50", "its_backup_due_seconds": "600x100"},
            "16m",
        ),
    ),
    "BackupMissing": (
        Case({"its_backups": "0x300"}, "70m", ({},)),
        # The first one was made soon; and no place is set.
        Case({"its_backups": "0x100 1x200"}, "70m"),
    ),
}


def promtool(folder: Path, test: dict[str, Any]) -> str:
    """What it finds wrong with a test; empty where it passes."""
    need_prometheus()
    path = folder / "case.yaml"
    content = {"rule_files": [str(file) for file in FILES], "evaluation_interval": "15s", "tests": [test]}
    path.write_text(yaml.safe_dump(content))
    done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def asked(alert: str, case: Case) -> dict[str, Any]:
    severity = ALERTS[alert]["labels"]["severity"]
    firing = [{"alertname": alert, "alertstate": "firing", "severity": severity, **labels} for labels in case.fires]
    samples = [
        {"labels": "ALERTS{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}", "value": 1}
        for labels in firing
    ]
    expression = f'ALERTS{{alertname="{alert}",alertstate="firing"}}'
    return {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "promql_expr_test": [{"expr": expression, "eval_time": case.at, "exp_samples": samples}],
    }


def test_every_alert_has_its_cases() -> None:
    assert set(CASES) == set(ALERTS)
    assert all(fires.fires and not silent.fires for fires, silent in CASES.values())


@pytest.mark.parametrize("alert", sorted(CASES))
def test_an_alert_fires_where_it_should_and_not_elsewhere(alert: str, tmp_path: Path) -> None:
    fires, silent = CASES[alert]
    assert promtool(tmp_path, asked(alert, fires)) == ""
    assert promtool(tmp_path, asked(alert, silent)) == ""


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (Case({NORTH: "0+15x20 stale", TRITON: "1x20 0x80"}, "20m"), "no Triton can be read"),
        (Case({NORTH: "0+15x20 stale", TRITON: "1x6000"}, "24h10m"), "gone for a day"),
        (Case({NORTH: "0+15x20 stale _x40 915+15x60", TRITON: "1x20 0x40 1x60"}, "15m30s"), "it came back with Triton"),
    ],
)
def test_a_camera_is_not_called_silent_where_that_is_not_known_or_no_news(tmp_path: Path, case: Case, why: str) -> None:
    assert promtool(tmp_path, asked("NoFramesFromCamera", case)) == "", why


def test_two_runs_that_failed_are_not_more_than_two(tmp_path: Path) -> None:
    case = Case({'its_dagster_runs{status="FAILURE"}': "5x200 7x200"}, "60m")
    # Scrapes do not fall on the ends of what a rule looks back over, and Prometheus adds there what it did not see.
    assert promtool(tmp_path, {**asked("RunsFailing", case), "interval": "14s"}) == ""


def test_a_triton_is_not_called_down_where_the_exporter_is_which_passes_its_figures_on(tmp_path: Path) -> None:
    exporter, passed_on = 'up{job="its",instance="127.0.0.1:18350"}', 'up{job="triton",part="triton",instance="%s"}'
    away = {exporter: "1x8 0x40", passed_on % "127.0.0.1:18350": "1x8 0x40"}
    assert promtool(tmp_path, asked("TritonDown", Case(away, "4m"))) == ""
    # Under Docker Compose Triton is asked itself.
    labels = {"job": "triton", "part": "triton", "instance": "triton:8102"}
    itself = Case({exporter: "1x8 0x40", passed_on % "triton:8102": "1x8 0x40"}, "4m", (labels,))
    assert promtool(tmp_path, asked("TritonDown", itself)) == ""


def test_an_alert_says_of_what_and_how_much(tmp_path: Path) -> None:
    fires = CASES["PartRestarting"][0]
    notes = ALERTS["PartRestarting"]["annotations"]
    told = {
        "summary": "mlflow was started again 3 times in a quarter of an hour.",
        "description": notes["description"].replace("{{ $labels.part }}", "mlflow"),
    }
    expected = [{"exp_labels": {"severity": "warning", "part": "mlflow"}, "exp_annotations": told}]
    test = asked("PartRestarting", fires)
    test["alert_rule_test"] = [{"eval_time": "4m", "alertname": "PartRestarting", "exp_alerts": expected}]
    test.pop("promql_expr_test")
    assert promtool(tmp_path, test) == ""


def test_the_rules_pass_promtools_check() -> None:
    need_prometheus()
    done = subprocess.run(["promtool", "check", "rules", *FILES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_an_alert_says_what_to_do_by_commands_that_there_are(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"warning", "critical"}
    said = rule["annotations"]["summary"] + " " + rule["annotations"]["description"]
    assert len(rule["annotations"]["description"]) > 60
    for words in re.findall(r"`its ([^`]*)`", said):
        name, *rest = words.split()
        assert name in ENTRIES, words
        if rest and ENTRIES[name].function is None:
            assert rest[0] in load_command(name).commands, words
