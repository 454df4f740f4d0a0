"""Every choice that a person can make about the platform, in one tree of small groups.

Read from the environment (`ITS_TRAINING__EPOCHS=3`), then from `settings.yaml` in the home folder, then from the
defaults here. Nothing is connected to or created by reading them. Paths derive from `home`; removing that folder
is a full reset.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from its_platform.errors import BadInput

REPOSITORY = Path(__file__).resolve().parents[1]
# What `its up --profile` leaves for every later command; it is no part of settings.yaml, which is the person's.
PROFILE_FILE = "profile.yaml"
STARTER_WEIGHTS = REPOSITORY / "its_platform" / "model" / "starter.pt"


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Ports(_Group):
    """TCP ports on 127.0.0.1."""

    dagster: int = Field(3000, ge=1, le=65535, description="Dagster's page.")
    dagster_code: int = Field(3001, ge=1, le=65535, description="Where Dagster's page and daemon ask for the code.")
    mlflow: int = Field(5000, ge=1, le=65535, description="MLflow's page and its tracking server.")
    evidently: int = Field(8080, ge=1, le=65535, description="Evidently's page of drift reports.")
    triton_http: int = Field(8100, ge=1, le=65535, description="Triton's HTTP: readiness, loading and unloading.")
    triton_grpc: int = Field(8101, ge=1, le=65535, description="Triton's gRPC, where frames are sent.")
    triton_metrics: int = Field(8102, ge=1, le=65535, description="Triton's figures for Prometheus.")
    triton_replicas: int = Field(
        8110, ge=1, le=65000, description="First of the ports of further Tritons, three each: HTTP, gRPC, figures."
    )

    postgres: int = Field(15432, ge=1, le=65535, description="PostgreSQL of the services profile.")
    redis: int = Field(16379, ge=1, le=65535, description="Redis of the services profile.")
    objects: int = Field(18333, ge=1, le=65535, description="The S3 server of the services profile.")
    objects_inner: int = Field(
        18340, ge=1, le=65000, description="First of the seven ports by which the parts of that server know each other."
    )
    metrics: int = Field(18350, ge=1, le=65535, description="The platform's own figures, in the services profile.")
    prometheus: int = Field(19090, ge=1, le=65535, description="Prometheus' page, in the services profile.")
    alertmanager: int = Field(19093, ge=1, le=65535, description="Alertmanager's page, in the services profile.")

    @model_validator(mode="after")
    def _are_different(self) -> Ports:
        taken: dict[int, str] = {}
        for name, port in self:
            if port in taken:
                raise ValueError(f"{taken[port]} and {name} cannot both have {port}")
            taken[port] = name
        return self


class ObjectSettings(_Group):
    """How frames and other objects are kept."""

    sealed: bool = Field(
        True, description="Whether new objects are encrypted, by a key for each camera and day of capture."
    )
    keys: Path | None = Field(None, description="Folder of those keys; `keys` in `home` unless set.")
    retention_days: int | None = Field(
        None, ge=1, description="Days after which the pictures of frames expire; they are kept unless set."
    )
    replaced_days: int = Field(
        30, ge=1, description="Days that an S3 server keeps versions of objects that were replaced or deleted."
    )
    expire_here: bool = Field(
        False,
        description="Whether the supervisor removes what has expired from the S3 server of `objects_url` too; one that "
        "keeps a bucket's rules and does not carry them out (SeaweedFS) wants that.",
    )


class FrameSettings(_Group):
    """How footage becomes frames."""

    jpeg_quality: int = Field(92, ge=50, le=100, description="For frames that do not come as a JPEG, or were changed.")
    frozen_difference: float = Field(
        0.35, ge=0, description="Mean grey-level change under which a picture counts as frozen."
    )
    duplicate_changed_share: float = Field(
        0.0003, ge=0, le=1, description="A frame is a duplicate when less of the picture than this changed."
    )
    face_model: Path | None = Field(None, description="YuNet detector of faces (ONNX), for cameras with privacy.")
    plate_model: Path | None = Field(None, description="YOLO detector of number plates, for cameras with privacy.")


class DatasetSettings(_Group):
    """How frames and labels become a dataset version."""

    block_s: float = Field(60.0, gt=0, description="Length of a block of capture time, the unit of a split.")
    guard_s: float = Field(2.0, ge=0, description="Frames this close to a block of another split are left out.")
    guard_frames: int = Field(1, ge=0, description="The same where only numbering is known.")
    block_frames: int = Field(10, ge=1, description="Block length where only numbering is known.")
    split_train: float = Field(0.6, gt=0, description="Share of the blocks; the four are taken relative to their sum.")
    split_val: float = Field(0.15, ge=0, description="The same for val, by which a training picks its best epoch.")
    split_test: float = Field(0.1, ge=0, description="The same for test, which only evaluates.")
    split_golden: float = Field(0.15, ge=0, description="Only where the golden set has not seen a camera's condition.")
    minimum_train_frames: int = Field(10, ge=1, description="Fewer frames in the training split fail the check.")
    minimum_judge_frames: int = Field(2, ge=1, description="The same for val and for golden.")
    licence: str = Field("", description="Licence of the footage and its labels, as each version's card says it.")
    seed: int = Field(0, description="Which blocks go where; the same seed splits the same footage the same way.")


class TrainingSettings(_Group):
    """How a detector is trained."""

    family: Literal["yolo", "rtdetr"] = Field("yolo", description="Kind of detector.")
    weights: Path = Field(STARTER_WEIGHTS, description="What a first training starts from.")
    epochs: int = Field(4, ge=1, description="Passes over the training split.")
    image_size: int = Field(320, ge=32, multiple_of=32, description="Side in pixels of the square a detector is given.")
    rectangular: bool = Field(
        False,
        description="Export for the shape of most frames (320x192 for 16:9) instead of the square, which pads them.",
    )
    batch: int = Field(16, ge=1, description="Frames in one training step.")
    learning_rate: float = Field(0.001, gt=0, description="Highest rate of the optimiser; it falls from there.")
    freeze_layers: int = Field(0, ge=0, description="The first layers, this many, keep the weights they come with.")
    device: str = Field("auto", description="auto takes a GPU when there is one.")
    workers: int = Field(0, ge=0, description="Processes that load frames beside the training; 0 loads in it.")
    seed: int = Field(0, description="Order of the frames, their augmentation and what is initialised at random.")
    export_iou: float = Field(0.7, gt=0, le=1, description="Overlap above which the export keeps one box of two.")


class GateSettings(_Group):
    """What a model version has to reach before it is served."""

    simulated_floor: float = Field(
        0.9, ge=0, le=1, description="Least AP50 of any class on the golden frames of simulated cameras."
    )
    real_floor: float = Field(0.7, ge=0, le=1, description="The same of real cameras.")
    slice_floors: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        {},
        description='Slices of the golden set with a floor of their own, out of the two above: `{"light=night": 0.5}`.',
    )
    class_floor: float = Field(
        0.1, ge=0, le=1, description="Least AP50 of each class with enough boxes; wrong names for boxes fall below it."
    )
    calibration_error: float = Field(
        0.25, ge=0, le=1, description="Most that confidences may be away from the share of hits, over ten bins."
    )
    minimum_boxes: int = Field(50, ge=1, description="Below this many ground-truth boxes a slice is not judged.")
    slice_tolerance: float = Field(
        0.03,
        ge=0,
        description="How much worse than the served model a slice may be, at the lower bound of a paired bootstrap.",
    )
    class_tolerance: float = Field(
        0.1, ge=0, description="The same for one class by itself, whose few boxes scatter more."
    )
    parity_floor: float = Field(
        0.99, ge=0, le=1, description="Share of the detector's own boxes that the export has too."
    )
    format_tolerance: float = Field(
        0.02, ge=0, le=1, description="AP50 that a format which rounds (onnx-int8, tensorrt) may lose against FP32."
    )
    latency_ratio: float = Field(1.5, gt=0, description="Slowest allowed, as a multiple of the served model.")
    latency_rounds: int = Field(5, ge=3, description="Rounds in which candidate and served model take turns.")
    latency_requests: int = Field(12, ge=3, description="Requests to each model in one round.")
    latency_attempts: int = Field(3, ge=1, description="How often a spread that is too wide is measured again.")
    latency_spread: float = Field(0.5, gt=0, description="A wider spread over the rounds is no verdict.")
    latency_budget_ms: float | None = Field(None, description="Absolute budget; only where the hardware is named.")
    hardware: str | None = Field(None, description="What the absolute budget was measured on.")
    memory_ratio: float = Field(
        1.5, gt=0, description="Most resident memory of an instance, as a multiple of the served model's."
    )
    memory_budget_mib: float | None = Field(None, gt=0, description="The same in MiB.")


class CanarySettings(_Group):
    """How a version that passed its gates comes to answer live traffic, step by step."""

    steps: list[float] = Field(
        [5, 25, 100],
        description="Shares of the live traffic in per cent that a canary gets one after the other; an empty list "
        "has a version that passed its gates go to production at once.",
    )
    pairs_percent: float = Field(
        20, gt=0, le=100, description="Share of the live traffic of which both versions are asked, in per cent."
    )
    minimum_blocks: int = Field(
        30, ge=1, description="Blocks of one camera and one minute that a canary needs at each step."
    )
    alpha: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="Chance that a canary is ever wrongly found to be worse by the truth; the same for its being "
        "different, over all lights.",
    )
    margin: float = Field(
        0.02, ge=0, lt=1, description="How much less F1 than production, over all cameras, is not yet worse."
    )
    camera_margin: float = Field(0.1, ge=0, lt=1, description="The same at one camera.")
    disagreement: float = Field(
        0.35, gt=0, lt=1, description="Share of boxes that may differ where production passed its gates."
    )
    failures: int = Field(3, ge=1, description="Failed pictures, answered by production instead, that end a canary.")
    patience_s: float = Field(
        86_400, gt=0, description="A canary without enough evidence after this long is told as such."
    )

    @field_validator("steps")
    @classmethod
    def _rising(cls, steps: list[float]) -> list[float]:
        if any(not 0 < step <= 100 for step in steps) or sorted(set(steps)) != steps:
            raise ValueError("the steps must rise, each more than 0 and at most 100")
        return steps


class DriftSettings(_Group):
    """When the live picture counts as drifted."""

    method: Literal["psi", "wasserstein"] = Field("psi", description="How the distance of two columns is measured.")
    window_s: float = Field(600.0, gt=0, description="Length of a window of live predictions.")
    minimum_rows: int = Field(60, ge=1, description="A window with fewer rows is not judged.")
    false_alarm_rate: float = Field(
        0.01, gt=0, lt=1, description="Share of undrifted windows that may be called drifted."
    )
    windows: int = Field(3, ge=1, description="N: the windows that are looked at.")
    windows_drifted: int = Field(2, ge=1, description="K: how many of them must have drifted.")
    kept_pages: int = Field(
        1000, ge=1, description="Reports that have a page, the newest; of older ones the figures stay."
    )


class RetrainingSettings(_Group):
    """The policy by which the platform trains: what starts it, on what data, how often at most."""

    enabled: bool = Field(True, description="Whether the platform starts trainings by itself.")
    minimum_reviewed_frames: int = Field(
        40, ge=1, description="Reviewed frames of the drifted windows that a retraining needs."
    )
    first_model_frames: int = Field(60, ge=1, description="Reviewed frames that the first training needs.")
    cool_down_s: float = Field(3600.0, ge=0, description="Pause after a training before drift starts the next.")
    most_a_day: int = Field(24, ge=1, description="Trainings that may be started within 24 hours.")
    attempts: int = Field(
        5, ge=1, description="Starts for the same reason that gave no model, after which a person has to look."
    )
    sample_frames: int = Field(120, ge=1, description="Frames drawn from the drifted windows for review.")
    judge_share: float = Field(0.4, gt=0, lt=1, description="Share of the sample that may only judge.")
    judge_blocks: Literal["random", "latest"] = Field(
        "random",
        description="Which blocks of the sample judge: drawn at random, or the latest, all earlier ones teach.",
    )
    epochs: int | None = Field(
        None, ge=1, description="Epochs of a retraining, which begins where the served model ends."
    )


class NotificationSettings(_Group):
    """Who is told when the platform decides something; nobody unless an address or a command is set."""

    webhook: str | None = Field(
        None, pattern=r"^https?://[^\s]+$", repr=False, description="Address that a JSON object is posted to."
    )
    command: tuple[str, ...] = Field((), description="Program and arguments that get the same JSON as their input.")
    events: tuple[Literal["training", "refusal", "rollback", "alert"], ...] = Field(
        ("training", "refusal", "rollback", "alert"), description="What is told of."
    )
    timeout_s: float = Field(5.0, gt=0, le=60, description="A webhook or command that takes longer has failed.")


class ServingSettings(_Group):
    """How Triton serves."""

    format: Literal["auto", "onnx", "onnx-int8", "openvino", "tensorrt"] = Field(
        "auto", description="What a trained version is served as; auto is the fastest here of those that are as good."
    )
    instances: int = Field(2, ge=1, description="Copies of each detector.")
    replicas: int = Field(
        1, ge=1, le=16, description="Tritons that serve the same; live pictures are spread over them."
    )
    threads: int = Field(1, ge=1, description="Threads of each copy; on a CPU more copies use the cores better.")
    front_instances: int = Field(2, ge=2, description="Copies of the model in front, which chooses the detector.")
    max_batch: int = Field(8, ge=1, le=8, description="Frames that a detector takes at once.")
    confidence: float = Field(0.25, ge=0, le=1, description="Threshold for a class that has none of its own.")
    spool_rows: int = Field(
        4096, ge=16, description="Log rows held in memory before further ones are lost and counted."
    )
    spool_flush_s: float = Field(1.0, gt=0, description="How often the log of predictions is written to disk.")
    measure_every_s: float = Field(
        1.0,
        ge=0,
        description="A live picture's light and noise are measured when this much of its camera's time passed.",
    )
    embed_every_s: float = Field(
        1.0, ge=0, description="A live picture is embedded when this much of its camera's time has passed."
    )
    cache_mb: float = Field(
        16.0, ge=0, description="Memory of each front instance for the answers to identical live pictures; 0 is off."
    )
    redis_url: str | None = Field(
        None, description="Redis that all front instances share such answers through, as `redis://host:port/0`."
    )
    dynamic_batching: bool = Field(False, description="Pays on a GPU; on a CPU it only adds waiting.")
    deadline_s: float = Field(10.0, gt=0, description="A detection that takes longer has failed.")
    endpoints: tuple[str, ...] = Field(
        (), description="`host:port` of each Triton that live pictures are spread over; empty is every replica here."
    )
    shared_memory: bool = Field(
        True, description="Whether pictures are handed to a Triton of this machine in shared memory."
    )
    traces_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s@]+$",
        description="OTLP over HTTP (`http://host:4318/v1/traces`), where runs tell of their steps, and Triton of "
        "requests that clients trace.",
    )
    probe_interval_s: float = Field(2.0, gt=0, description="How often the supervisor asks Triton for an inference.")


class SecuritySettings(_Group):
    """Who may ask Triton and the pages, and who may change what Triton serves."""

    triton_tls: bool | None = Field(
        None,
        description="Whether Triton answers only clients with a certificate, changes its models only for who has the "
        "secret, and has no HTTP; in the services profile unless set.",
    )
    triton_listen: str | None = Field(
        None,
        description="Address on which Triton's gRPC listens for other machines, with TLS alone; `host` unless set.",
    )
    pages_tls: bool | None = Field(
        None,
        description="Whether the pages of MLflow, Dagster and Evidently answer over TLS alone; in the services profile "
        "unless set.",
    )
    certificates: Path | None = Field(
        None, description="Folder of the certificates; `certificates` in `home` unless set."
    )


class HostSettings(_Group):
    """How released versions reach Tritons on other machines."""

    publish_url: str | None = Field(
        None,
        repr=False,
        description="Folder or bucket that released versions are published to: `file:///folder`, or "
        "`s3+https://key:secret@host:port/bucket`; in the services profile the bucket `its-models` of the home's own "
        "S3 server unless set, else nothing is published.",
    )
    sync_url: str | None = Field(
        None,
        repr=False,
        description="The same place, in the home of a host: it serves what is published there, and of the platform "
        "only Triton, the sync agent and the supervisor run in it.",
    )
    public_key: Path | None = Field(
        None, description="The publisher's public key (PEM), at a host; `publisher.pem` in `home` unless set."
    )
    authority: Path | None = Field(
        None,
        description="Who signed the certificate of that S3 server, where the system does not know them (PEM); at a "
        "host `publisher-ca.pem` in `home` where that is there.",
    )
    interval_s: float = Field(10.0, gt=0, description="How often a host looks for what is new.")

    @model_validator(mode="after")
    def _publishes_or_fetches(self) -> HostSettings:
        if self.publish_url is not None and self.sync_url is not None:
            raise ValueError("a home has publish_url or sync_url, not both: a host releases nothing")
        return self


class MetricsSettings(_Group):
    """What the services profile measures of itself, and how long that is kept."""

    prometheus: bool = Field(True, description="Whether Prometheus and Alertmanager are started.")
    interval_s: int = Field(15, ge=1, le=300, description="How often everything is measured and the rules are asked.")
    retention_days: int = Field(15, ge=1, description="How long figures are kept.")
    retention_mb: int = Field(2048, ge=64, description="Room beyond which the oldest figures go before their time.")
    cameras: int = Field(
        1000, ge=0, description="Cameras that have figures of their own; those beyond are only counted."
    )
    gather_s: int = Field(30, ge=0, description="How long Alertmanager gathers alerts of a kind before it tells.")
    repeat_hours: int = Field(4, ge=1, description="When an alert that still stands is told again.")


class SensorSettings(_Group):
    """How often Dagster's sensors look, and which of them start by themselves."""

    interval_s: int = Field(30, ge=1, description="Least pause between two looks of a sensor.")
    running: bool = Field(True, description="Whether the sensors start by themselves.")


class MartSettings(_Group):
    """Where dbt builds its marts, and when."""

    target: Literal["auto", "duckdb", "postgres"] = Field(
        "auto", description="auto is a DuckDB file in the embedded profile and PostgreSQL in the services profile."
    )
    every_hours: int = Field(1, ge=1, le=24, description="How often Dagster builds them.")


class BackupSettings(_Group):
    """Where copies of everything go that a machine may lose."""

    url: str | None = Field(
        None,
        repr=False,
        description="Folder or bucket for backups: `file:///folder`, or `s3+https://key:secret@host:port/bucket`.",
    )
    authority: Path | None = Field(
        None, description="Who signed the certificate of that S3 server, where the system does not know them (PEM)."
    )
    warn_after_days: float = Field(
        2.0, gt=0, description="`its doctor` tells of a last backup that is older; only where there is a url."
    )


class Settings(BaseSettings):
    """The whole tree. `home` holds all state of a checkout."""

    model_config = SettingsConfigDict(env_prefix="ITS_", env_nested_delimiter="__", extra="ignore", frozen=True)

    profile: Literal["embedded", "services"] = Field(
        "embedded",
        description="Whether the stores are files and a PostgreSQL from a wheel, or PostgreSQL, Redis and S3 as "
        "servers: those that have an address here, else those that `its up --profile services` starts.",
    )
    home: Path = Field(REPOSITORY / ".its", description="Folder of all state; `ITS_HOME` sets it.")
    host: str = Field("127.0.0.1", description="Where the servers listen and are asked.")
    environments: Path = Field(REPOSITORY / ".venvs", description="Where the environments of DVC and Triton are.")
    database_url: str | None = Field(None, description="PostgreSQL of someone else; its database name is a prefix.")
    objects_url: str | None = Field(None, description="S3 of someone else, or `file:///folder`, for frames.")
    data_remote: str | None = Field(
        None,
        repr=False,
        description="Folder, or bucket as `s3+https://key:secret@host:port/bucket`, that dataset versions are pushed "
        "to and pulled from; else `dvc-remote` in `home`, or the bucket `its-data` of the home's own S3 server.",
    )
    classes: tuple[str, ...] = Field(
        ("car", "truck", "bus", "motorcycle", "bicycle", "pedestrian"), description="Classes of a new dataset version."
    )
    ports: Ports = Ports()
    objects: ObjectSettings = ObjectSettings()
    frames: FrameSettings = FrameSettings()
    dataset: DatasetSettings = DatasetSettings()
    training: TrainingSettings = TrainingSettings()
    gates: GateSettings = GateSettings()
    canary: CanarySettings = CanarySettings()
    drift: DriftSettings = DriftSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    notifications: NotificationSettings = NotificationSettings()
    serving: ServingSettings = ServingSettings()
    hosts: HostSettings = HostSettings()
    security: SecuritySettings = SecuritySettings()
    metrics: MetricsSettings = MetricsSettings()
    sensors: SensorSettings = SensorSettings()
    marts: MartSettings = MartSettings()
    backup: BackupSettings = BackupSettings()

    @model_validator(mode="after")
    def _replicas_have_ports(self) -> Settings:
        first, count = self.ports.triton_replicas, 3 * (self.serving.replicas - 1)
        for name, port in self.ports:
            if name != "triton_replicas" and first <= port < first + count:
                raise ValueError(f"{name} has {port}, which a Triton replica needs: they have {first} and what follows")
        return self

    @model_validator(mode="after")
    def _triton_listens_to_those_it_knows(self) -> Settings:
        if self.security.triton_listen is not None and not self.triton_tls:
            raise ValueError("security.triton_listen needs triton_tls: anyone could change what is served")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        home = Path(os.environ.get("ITS_HOME", REPOSITORY / ".its"))
        written = YamlConfigSettingsSource(settings_cls, yaml_file=[home / PROFILE_FILE, home / "settings.yaml"])
        return init_settings, env_settings, written

    @property
    def tables(self) -> Path:
        """Delta tables: frames, labels, predictions."""
        return self.home / "tables"

    @property
    def model_repository(self) -> Path:
        """What Triton reads."""
        return self.home / "triton" / "models"

    @property
    def evidently_workspace(self) -> Path:
        """What `evidently ui --workspace` is given, and where the drift reports are put for it."""
        return self.home / "evidently"

    @property
    def spool(self) -> Path:
        """Where the front writes its log of predictions."""
        return self.home / "triton" / "spool"

    @property
    def pairs_spool(self) -> Path:
        """Where the front leaves the answers of production and canary to the same pictures."""
        return self.home / "triton" / "pairs"

    @property
    def is_host(self) -> bool:
        """Whether this home only serves what another one releases."""
        return self.hosts.sync_url is not None

    @property
    def runs_postgres(self) -> bool:
        """Whether the database is a server of this home's own, from a wheel or from the system."""
        return self.database_url is None and not self.is_host

    @property
    def runs_objects(self) -> bool:
        """Whether the S3 server is one of this home's own."""
        return self.profile == "services" and self.objects_url is None

    @property
    def runs_redis(self) -> bool:
        """Whether Redis is a server of this home's own."""
        return self.profile == "services" and self.serving.redis_url is None

    @property
    def runs_metrics(self) -> bool:
        """Whether the platform's own figures are served."""
        return self.profile == "services"

    @property
    def runs_prometheus(self) -> bool:
        """Whether Prometheus and Alertmanager are servers of this home's own."""
        return self.runs_metrics and self.metrics.prometheus

    @property
    def services(self) -> Path:
        """Data, configuration and passwords of the servers that the services profile starts here."""
        return self.home / "services"

    @property
    def warehouse_target(self) -> Literal["duckdb", "postgres"]:
        """What dbt builds the marts in."""
        if self.marts.target != "auto":
            return self.marts.target
        return "postgres" if self.profile == "services" else "duckdb"

    @property
    def warehouse(self) -> Path:
        """Where dbt's marts, its target and its logs are."""
        return self.home / "warehouse"

    @property
    def triton_tls(self) -> bool:
        """Whether Triton answers only clients with a certificate."""
        return self._chosen(self.security.triton_tls)

    @property
    def pages_tls(self) -> bool:
        """Whether MLflow's, Dagster's and Evidently's pages answer over TLS alone."""
        return self._chosen(self.security.pages_tls)

    @property
    def uses_certificates(self) -> bool:
        """Whether any server shows the certificate of this home."""
        return self.profile == "services" or self.triton_tls or self.pages_tls

    def _chosen(self, wished: bool | None) -> bool:
        return self.profile == "services" if wished is None else wished

    @property
    def certificates(self) -> Path:
        """Where the authority, the certificates of servers and clients, and the secret of Triton are."""
        return self.security.certificates or self.home / "certificates"

    @property
    def logs(self) -> Path:
        return self.home / "log"

    @property
    def triton_grpc(self) -> str:
        return f"{self.host}:{self.ports.triton_grpc}"


def load_settings(**overrides: Any) -> Settings:
    """The settings in force. Raises `BadInput` naming each setting that cannot be used."""
    home = Path(os.environ.get("ITS_HOME", REPOSITORY / ".its"))
    if os.environ.get("ITS_HOME") == "":
        # Which would be the folder that somebody happens to stand in.
        raise BadInput("ITS_HOME is empty.", "Unset it, or point it at a folder.")
    if home.is_file():
        raise BadInput(f"The home {home} is a file, not a folder.", "Point ITS_HOME at a folder.")
    _check_written(home / "settings.yaml")
    _check_variables()
    try:
        return Settings(**overrides)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {_said(e)}" for e in error.errors())
        variable = "ITS_" + "__".join(str(part) for part in error.errors()[0]["loc"]).upper()
        raise BadInput(f"These settings cannot be used: {wrong}.", f"Check {variable} and settings.yaml.") from error
    except SettingsError as error:
        raise BadInput(
            f"These settings cannot be used: {error}.", """Lists and groups are JSON: ITS_CLASSES='["car", "bus"]'."""
        ) from error


def _check_written(path: Path) -> None:
    """Raise `BadInput` where settings.yaml is no mapping of settings: a misspelt one would silently be the default."""
    import yaml

    if not path.exists():
        return
    try:
        written = yaml.safe_load(path.read_text("utf-8")) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not YAML that can be read.", "Mend it, or remove it.") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.", "It is a file that you may read.") from error
    if not isinstance(written, dict):
        raise BadInput(f"{path} holds no groups of settings.", "Write them like training: {epochs: 4}.")
    for name in written:
        if name not in Settings.model_fields:
            raise BadInput(
                f"{path}: {name!r} is no setting{_meant(str(name)) or '.'}", "docs/settings.md has them all."
            )


def _check_variables() -> None:
    """Raise `BadInput` for a variable whose group does not exist: nothing else is called ITS_ with two underscores."""
    for variable in os.environ:
        group, separator, field = variable.removeprefix("ITS_").partition("__")
        if variable.startswith("ITS_") and separator and group.lower() not in Settings.model_fields:
            found = get_close_matches(group.lower(), Settings.model_fields, 1)
            meant = f", did you mean ITS_{found[0].upper()}__{field}?" if found else "."
            raise BadInput(f"{variable} is no setting{meant}", "docs/settings.md has them all.")


def _said(error: Any) -> str:
    """What is wrong with a setting; of an unknown one, which was meant."""
    if error["type"] != "extra_forbidden":
        return str(error["msg"]).removeprefix("Value error, ")
    group = Settings.model_fields[str(error["loc"][0])].annotation
    known = list(group.model_fields) if isinstance(group, type) and issubclass(group, BaseModel) else []
    return f"there is no such setting{_meant(str(error['loc'][-1]), known)}"


def _meant(name: str, known: list[str] | None = None) -> str:
    found = get_close_matches(name, Settings.model_fields if known is None else known, 1)
    return f", did you mean {found[0]}?" if found else ""
