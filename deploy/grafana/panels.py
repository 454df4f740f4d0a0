"""What dashboards show, as values: titles, units, expressions for Prometheus. `build.py` makes Grafana's JSON of it.

A figure that could not be read is absent (docs/observing.md): no expression makes a zero of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Shape = Literal["lines", "bars", "now"]
RATE = "[$__rate_interval]"
LIVE = '{purpose="live"}'


@dataclass(frozen=True)
class Panel:
    """queries: expressions by their legend (`{{label}}`). unit: one of Grafana's. bad_from: the value that is red."""

    title: str
    queries: Mapping[str, str]
    unit: str = "short"
    shape: Shape = "lines"
    says: str = ""
    bad_from: float | None = None
    is_bad_below: bool = False
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Board:
    """One dashboard: rows of panels by their title. name: of its file, and its address in Grafana."""

    name: str
    title: str
    rows: Mapping[str, tuple[Panel, ...]]


UP = {"0": "down", "1": "up"}

LIVE_PLANE = Board(
    "its-live",
    "Live plane",
    {
        "Pictures": (
            Panel(
                "Pictures a second, by stage and version",
                {"{{stage}} {{version}}": f"sum by (stage, version) (rate(its_front_pictures_total{LIVE}{RATE}))"},
                "short",
            ),
            Panel(
                "Pictures a second, by purpose",
                {"{{purpose}}": f"sum by (purpose) (rate(its_front_pictures_total{RATE}))"},
            ),
            Panel(
                "Pictures a second, by camera",
                {"{{camera}}": f"topk(20, sum by (camera) (rate(its_front_camera_pictures_total{RATE})))"},
                says="The twenty that send most; those beyond the number that have figures of their own are `others`.",
            ),
        ),
        "Latency": (
            Panel(
                "Mean time in the front, by version",
                {
                    "{{version}}": f"sum by (version) (rate(its_front_answer_seconds_total{LIVE}{RATE}))"
                    f" / sum by (version) (rate(its_front_answers_total{LIVE}{RATE}))"
                },
                "s",
                says="Of live requests, the detector included. Means: Triton's figures hold no percentiles.",
            ),
            Panel(
                "Mean time in each model",
                {
                    "{{model}} {{version}}": f"sum by (model, version) (rate(nv_inference_request_duration_us{RATE}))"
                    f" / sum by (model, version) (rate(nv_inference_request_success{RATE}))"
                },
                "µs",
            ),
            Panel(
                "Mean time in the queue of each model",
                {
                    "{{model}} {{version}}": f"sum by (model, version) (rate(nv_inference_queue_duration_us{RATE}))"
                    f" / sum by (model, version) (rate(nv_inference_request_success{RATE}))"
                },
                "µs",
            ),
            Panel("Requests that wait", {"{{model}}": "sum by (model) (nv_inference_pending_request_count)"}),
        ),
        "Failures": (
            Panel(
                "Refused by the front",
                {"{{code}}": f"sum by (code) (rate(its_front_refused_total{RATE}))"},
                "reqps",
                "bars",
            ),
            Panel(
                "Failed in a model",
                {"{{model}} {{reason}}": f"sum by (model, reason) (rate(nv_inference_request_failure{RATE}))"},
                "reqps",
                "bars",
            ),
            Panel(
                "Log rows that were lost",
                {"{{log}}": f"sum by (log) (increase(its_front_lost_rows_total{RATE}))"},
                shape="bars",
                says="Answers are not affected; drift and canaries are judged on fewer rows.",
            ),
            Panel("Files of log rows that wait", {"{{log}}": "its_spool_files"}, bad_from=300),
            Panel("Files with lines that could not be read", {"{{log}}": "its_spool_refused_files"}, bad_from=1),
        ),
        "Cache": (
            Panel("Answer cache", {"{{event}}": f"sum by (event) (rate(its_front_cache_total{RATE}))"}, "ops"),
            Panel(
                "Share of live pictures answered from the cache",
                {
                    "{{version}}": f"sum by (version) (rate(its_front_cached_pictures_total{LIVE}{RATE}))"
                    f" / sum by (version) (rate(its_front_pictures_total{LIVE}{RATE}))"
                },
                "percentunit",
            ),
        ),
    },
)

LOOP = Board(
    "its-loop",
    "Loop",
    {
        "Now": (
            Panel(
                "What answers, and for how long",
                {"{{stage}}: {{model}} {{version}}": "time() - its_release_since_timestamp_seconds"},
                "s",
                "now",
            ),
            Panel("Drift found", {"{{version}}": "its_drift_is_drifted"}, shape="now", words={"0": "no", "1": "drift"}),
            Panel("Cameras", {"{{kind}}": 'sum by (kind) (its_cameras{is_enabled="true"})'}, shape="now"),
        ),
        "Drift": (
            Panel("Score of the latest report", {"{{version}}": "its_drift_score"}, bad_from=1),
            Panel(
                "Age of the latest report's window",
                {"{{version}}": "time() - its_drift_report_timestamp_seconds"},
                "s",
            ),
            Panel("Reports", {"{{verdict}}": "sum by (verdict) (increase(its_drift_reports_total[1h]))"}, shape="bars"),
        ),
        "Gates and releases": (
            Panel(
                "Verdicts of gates, by hour",
                {"{{verdict}}": "sum by (verdict) (increase(its_gate_results_total[1h]))"},
                shape="bars",
            ),
            Panel(
                "Versions that came to a stage, by hour",
                {"{{stage}}": "sum by (stage) (increase(its_releases_total[1h]))"},
                shape="bars",
            ),
        ),
        "Runs": (
            Panel(
                "Runs under way and queued",
                {"{{status}}": 'its_dagster_runs{status=~"QUEUED|NOT_STARTED|STARTING|STARTED|CANCELING"}'},
            ),
            Panel(
                "Runs that ended, by hour",
                {"{{status}}": 'delta(its_dagster_runs{status=~"SUCCESS|FAILURE|CANCELED"}[1h])'},
                shape="bars",
            ),
            Panel("Wait of the oldest queued run", {"wait": "its_dagster_queue_wait_seconds"}, "s", bad_from=1800),
        ),
        "Footage": (
            Panel(
                "Since the last live picture, by camera",
                {
                    "{{camera}}": "topk(20, time() - max by (camera) (its_front_last_picture_timestamp_seconds))",
                },
                "s",
                says="The twenty that have been silent for longest.",
                bad_from=300,
            ),
            Panel(
                "Since footage was last taken in, by camera",
                {"{{camera}}": "topk(20, time() - its_camera_taken_timestamp_seconds)"},
                "s",
                says="The twenty that have waited for longest.",
            ),
            Panel("Frames that are kept, by camera", {"{{camera}}": "topk(20, its_camera_frames)"}),
        ),
    },
)

MACHINE = Board(
    "its-machine",
    "Machine",
    {
        "Alerts": (
            Panel(
                "Firing",
                {"{{alertname}}": 'count by (alertname) (ALERTS{alertstate="firing"})'},
                shape="now",
                says="Empty is good.",
                bad_from=1,
            ),
            Panel("Scraped", {"{{job}} {{part}}": "up"}, shape="now", words=UP, bad_from=1, is_bad_below=True),
        ),
        "Parts": (
            Panel(
                "Answer a real request",
                {"{{part}}": "its_part_up"},
                shape="now",
                says="Absent under Docker Compose, which looks after its containers itself.",
                words=UP,
                bad_from=1,
                is_bad_below=True,
            ),
            Panel("Memory", {"{{part}}": "its_part_memory_bytes"}, "bytes"),
            Panel("Since the start", {"{{part}}": "its_part_uptime_seconds"}, "s"),
            Panel("Restarts, by hour", {"{{part}}": "increase(its_part_restarts_total[1h])"}, shape="bars"),
        ),
        "Stores": (
            Panel(
                "Answer a real request",
                {"{{store}}": "its_store_up"},
                shape="now",
                words=UP,
                bad_from=1,
                is_bad_below=True,
            ),
            Panel("Time to answer", {"{{store}}": "its_store_answer_seconds"}, "s"),
        ),
        "Disks": (
            Panel("Free", {"{{folder}}": "its_disk_free_bytes"}, "bytes", bad_from=5e9, is_bad_below=True),
            Panel(
                "Used",
                {"{{folder}}": "1 - its_disk_free_bytes / its_disk_size_bytes"},
                "percentunit",
            ),
            Panel("Log rows that wait, on disk", {"{{log}}": "its_spool_bytes"}, "bytes"),
        ),
        "Certificates": (
            Panel(
                "Left until a certificate ends",
                {"{{certificate}}": "its_certificate_expiry_timestamp_seconds - time()"},
                "s",
                "now",
                bad_from=14 * 86_400,
                is_bad_below=True,
            ),
        ),
        "Backups": (
            Panel(
                "Age of the newest backup",
                {"age": "time() - its_backup_newest_timestamp_seconds", "late from": "its_backup_due_seconds"},
                "s",
            ),
        ),
        "Figures themselves": (
            Panel("Time of the exporter's reads", {"{{read}}": "its_metrics_read_seconds"}, "s"),
            Panel(
                "Reads that failed",
                {"{{read}}": f"sum by (read) (increase(its_metrics_read_errors_total{RATE}))"},
                shape="bars",
            ),
            Panel("Time of a scrape", {"{{job}} {{part}}": "scrape_duration_seconds"}, "s"),
        ),
    },
)

BOARDS = (LIVE_PLANE, LOOP, MACHINE)
