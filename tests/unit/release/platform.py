"""Releasing on real rows, with fakes for the registry and Triton."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

from its_platform.release import truth, verdicts
from its_platform.release.asking import promote, rollback
from its_platform.release.gates import GateResult
from its_platform.release.outside import Outside
from its_platform.release.reconciling import reconcile
from its_platform.release.truth import ReleaseChange
from its_platform.stores import Stores
from tests.fakes import FakeRegistry, FakeTriton, Steps

MODEL = "detector-yolo-onnx-64"
PASSED = GateResult("accuracy_floor", "ap50", "golden", 0.8, 0.5, 200, "passed", "")
FAILED = replace(PASSED, value=0.3, verdict="failed", detail="mAP50 0.300 on 200 golden boxes")


@dataclass
class Faked:
    """Real rows, and fakes for the registry and Triton."""

    stores: Stores
    outside: Outside

    @property
    def registry(self) -> FakeRegistry:
        return self.outside.registry  # type: ignore[return-value]

    @property
    def triton(self) -> FakeTriton:
        return self.outside.server  # type: ignore[return-value]


@dataclass
class Platform(Faked):
    """What a person or a job does to releases; `steps` are those that the fakes take."""

    steps: Steps

    def train(self, content: bytes | None = None) -> int:
        return self.registry.add(content).version

    def judge(self, version: int, *results: GateResult, served: int | None = None) -> None:
        verdicts.record_judgement(self.stores, version, "test", served, results or (PASSED,))

    def train_good(self) -> int:
        version = self.train()
        now = truth.served(self.stores)
        self.judge(version, served=now.version if now else None)
        return version

    def promote(self, version: int, stage: str = "production") -> ReleaseChange:
        return promote(self.stores, version, stage, "tester", "a test", outside=self.outside)

    def reconcile(self) -> list[ReleaseChange]:
        return reconcile(self.stores, "tester", outside=self.outside)

    def rollback(self) -> ReleaseChange:
        return rollback(self.stores, "tester", "it misses buses", outside=self.outside)

    def restart_triton(self) -> None:
        """Another Triton on the same repository, which has loaded nothing yet."""
        object.__setattr__(self.outside, "server", FakeTriton(self.stores.settings, self.steps))
        self.triton.forget()

    def served(self, stage: str = "production") -> int | None:
        row = truth.served(self.stores, stage)
        return row.version if row is not None else None

    def answering(self, stage: str = "production") -> int:
        return self.triton.served_version(self.outside.picture(SimpleNamespace()), stage)  # type: ignore[arg-type]

    def assert_served(self, version: int, stage: str = "production") -> None:
        """Truth, routes and what the front answers with are one."""
        assert self.served(stage) == version
        assert self.answering(stage) == version
        assert self.registry.aliases_set[stage] == version
