"""Triton and its repository as releasing sees them: the calls of `serving` behind the protocol `ModelServer`.

Nothing is decided here and nothing remembered; each call opens its own connection, because a release is rare and
the server may have been restarted since the last one.
"""

from __future__ import annotations

from pathlib import Path

from its_platform.contract import served_digest
from its_platform.errors import BadInput
from its_platform.release.gates import Signature, Tensor
from its_platform.release.outside import Image, Routes, Rows
from its_platform.serving import repository
from its_platform.serving.client import DetectorClient, Tensors, with_client
from its_platform.serving.config import FRONT, contract_of
from its_platform.serving.processes import resident_bytes, stubs
from its_platform.settings import Settings
from its_platform.stores.registry import ModelVersion

# An answer to one picture that takes longer than this on a busy machine is no answer.
INFER_DEADLINE_S = 30.0


class TritonServer:
    """The Triton of these settings."""

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

        with_client(self.settings, use)

    def unload(self, model: str) -> None:
        """Have Triton forget the model."""

        async def use(client: DetectorClient) -> None:
            await client.unload(model)

        with_client(self.settings, use)

    def ready(self) -> dict[str, set[int]]:
        """The versions that Triton calls ready, by model, without the front."""

        async def use(client: DetectorClient) -> dict[str, set[int]]:
            found: dict[str, set[int]] = {}
            for state in await client.repository_index():
                if state.is_ready and state.version is not None and state.name != FRONT:
                    found.setdefault(state.name, set()).add(state.version)
            return found

        return with_client(self.settings, use)

    def infer(self, model: str, version: int, images: Image) -> Rows:
        """Ask a detector past the front: uint8 `[n, S, S, 3]` to float32 `[n, 300, 6]`."""

        async def use(client: DetectorClient) -> Rows:
            return await client.infer_detector(model, version, images)

        return with_client(self.settings, use, INFER_DEADLINE_S)

    def signature(self, model: str, version: int) -> Signature:
        """The digest of what lies in the repository, and the tensors by which Triton answers."""

        async def use(client: DetectorClient) -> tuple[Tensors, Tensors]:
            return await client.tensors(model, version)

        inputs, outputs = with_client(self.settings, use)
        folder = self.settings.model_repository / model / str(version)
        return Signature(
            served_digest(folder, contract_of(model).format.name),
            tuple(Tensor(*tensor) for tensor in inputs),
            tuple(Tensor(*tensor) for tensor in outputs),
        )

    def memory_bytes(self, model: str, version: int) -> int | None:
        """The mean over the version's instances; None where they are not processes of this machine."""
        found = [
            resident_bytes(stub.pid) for stub in stubs(self.settings) if (stub.model, stub.version) == (model, version)
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
        """Ask the front with the stage pinned; the version that answered. Raises `ModelRefused` if it is unknown."""

        async def use(client: DetectorClient) -> int:
            answer = await client.detect(image, camera_id="release", stage=stage, purpose="probe")
            return answer.model_version

        return with_client(self.settings, use, INFER_DEADLINE_S)
