"""Triton and its repository as releasing sees them: the calls of `serving` behind the protocol `ModelServer`.

Nothing is decided here and nothing remembered; each call opens its own connection, because a release is rare and
the server may have been restarted since the last one. Several replicas are one server: each living one is told to load,
and what is ready or served is what all of them have.
"""

from __future__ import annotations

from pathlib import Path

from its_platform.contract import served_digest
from its_platform.errors import BadInput, ServerUnavailable
from its_platform.release.gates import Signature, Tensor
from its_platform.release.outside import Image, Routes, Rows
from its_platform.serving import repository
from its_platform.serving.client import DetectorClient, Tensors, with_client
from its_platform.serving.config import FRONT, contract_of
from its_platform.serving.health import answers
from its_platform.serving.processes import resident_bytes, running, stubs_of_home
from its_platform.serving.replicas import replica_settings
from its_platform.settings import Settings
from its_platform.stores.registry import ModelVersion

# An answer to one picture that takes longer than this on a busy machine is no answer.
INFER_DEADLINE_S = 30.0
STARTS_WITHIN_S = 15.0


class TritonServer:
    """The Triton of these settings, or all of its replicas that live."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def place(self, version: ModelVersion, onnx: Path) -> None:
        """Put a version into the repository by one rename. Raises `BadInput` for a file that was not registered."""
        repository.place_version(self.settings, version, onnx)

    def placed(self) -> dict[str, set[int]]:
        """The versions that lie in the repository, by Triton model."""
        models = repository.served_models(self.settings)
        return {model: set(repository.placed_versions(self.settings, model)) for model in models}

    def broken(self) -> dict[str, set[int]]:
        """The versions in the repository whose files are not whole, by Triton model."""
        found: dict[str, set[int]] = {}
        for model, version in repository.broken_versions(self.settings):
            found.setdefault(model, set()).add(version)
        return found

    def remove(self, model: str, version: int) -> None:
        """Take a version out of the repository; Triton lets it go with the next load."""
        repository.remove_version(self.settings, model, version)

    def load(self, model: str) -> None:
        """Have Triton read the model's folder again. Raises `ModelRefused`; what ran before goes on then."""

        async def use(client: DetectorClient) -> None:
            await client.load(model)

        for replica in self._living():
            with_client(replica, use)

    def unload(self, model: str) -> None:
        """Have Triton forget the model."""

        async def use(client: DetectorClient) -> None:
            await client.unload(model)

        for replica in self._living():
            with_client(replica, use)

    def ready(self) -> dict[str, set[int]]:
        """The versions that every living replica calls ready, by model, without the front."""

        async def use(client: DetectorClient) -> dict[str, set[int]]:
            found: dict[str, set[int]] = {}
            for state in await client.repository_index():
                if state.is_ready and state.version is not None and state.name != FRONT:
                    found.setdefault(state.name, set()).add(state.version)
            return found

        each = [with_client(replica, use) for replica in self._living()]
        return {
            model: everywhere
            for model in each[0]
            if (everywhere := set.intersection(*(found.get(model, set()) for found in each)))
        }

    def infer(self, model: str, version: int, images: Image) -> Rows:
        """Ask a detector past the front: uint8 `[n, S, S, 3]` to float32 `[n, 300, 6]`."""

        async def use(client: DetectorClient) -> Rows:
            return await client.infer_detector(model, version, images)

        return with_client(self._living()[0], use, INFER_DEADLINE_S)

    def signature(self, model: str, version: int) -> Signature:
        """The digest of what lies in the repository, and the tensors by which Triton answers."""

        async def use(client: DetectorClient) -> tuple[Tensors, Tensors]:
            return await client.tensors(model, version)

        inputs, outputs = with_client(self._living()[0], use)
        folder = self.settings.model_repository / model / str(version)
        return Signature(
            served_digest(folder, contract_of(model).format.name),
            tuple(Tensor(*tensor) for tensor in inputs),
            tuple(Tensor(*tensor) for tensor in outputs),
        )

    def memory_bytes(self, model: str, version: int) -> int | None:
        """The mean over the version's instances; None where they are not processes of this machine."""
        found = [
            resident_bytes(stub.pid)
            for stub in stubs_of_home(self.settings)
            if (stub.model, stub.version) == (model, version)
        ]
        seen = [size for size in found if size]
        return round(sum(seen) / len(seen)) if seen else None

    def route(self, stages: Routes) -> None:
        """Tell the front what answers at each stage; it follows within a fraction of a second."""
        repository.write_routes(self.settings, stages)

    def routed(self) -> Routes | None:
        """What the front was last told; None where that cannot be read."""
        try:
            return repository.read_routes(self.settings)
        except BadInput:
            return None

    def served_version(self, image: Image, stage: str) -> int:
        """Ask each living front with the stage pinned; the version that answered.

        Raises `ModelRefused` if the stage is unknown, `ServerUnavailable` where the replicas do not agree.
        """

        async def use(client: DetectorClient) -> int:
            answer = await client.detect(image, camera_id="release", stage=stage, purpose="probe")
            return answer.model_version

        answered = {replica.triton_grpc: with_client(replica, use, INFER_DEADLINE_S) for replica in self._living()}
        if len(set(answered.values())) > 1:
            told = ", ".join(f"{address} with {version}" for address, version in answered.items())
            raise ServerUnavailable(
                f"The replicas answer with different versions at {stage}: {told}.", "Wait a moment."
            )
        return next(iter(answered.values()))

    def _living(self) -> list[Settings]:
        """The replicas that run and answer; one that is starting is waited for. All where none is seen.

        A replica that is away reads repository and routes when it starts, and is brought to the truth by the next
        reconcile.
        """
        replicas = replica_settings(self.settings)
        if len(replicas) == 1:
            return list(replicas)
        seen = [replica for replica in replicas if running(replica) is not None]
        return [replica for replica in seen if answers(replica, STARTS_WITHIN_S)] or list(replicas)
