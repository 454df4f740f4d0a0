"""The registry of cameras: one row each in the table `cameras`.

Enters: a camera with its policy. Leaves: the cameras that are known. Removing a camera takes it from the registry and
leaves its frames: those are never changed. What a source delivers belongs to `frames`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from its_platform.cameras.address import Address, check_options, normal_source, parse_address, public_source
from its_platform.errors import BadInput, NotFound

if TYPE_CHECKING:
    from its_platform.stores import Stores
    from its_platform.stores.schema import CameraRow

Privacy = Literal["none", "faces_and_plates"]

CAMERA_ID = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")


class Camera(BaseModel):
    """A camera and the policy that its footage is treated by.

    camera_id: lower-case letters, digits and `_.-`, at most 63. source: see `cameras.address`.
    sample_interval_s: seconds between two frames that are taken; 0 takes every frame.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    camera_id: str
    source: str
    site: str = ""
    privacy: Privacy = "none"
    sample_interval_s: float = Field(1.0, ge=0, le=86400, allow_inf_nan=False)
    enabled: bool = True

    @field_validator("camera_id")
    @classmethod
    def _is_plain(cls, value: str) -> str:
        if not is_camera_id(value):
            raise ValueError("use lower-case letters, digits and _.-, at most 63")
        return value

    @field_validator("source")
    @classmethod
    def _is_readable(cls, value: str) -> str:
        try:
            check_options(parse_address(value))
            return normal_source(value)
        except BadInput as error:
            raise ValueError(str(error)) from error

    @property
    def address(self) -> Address:
        return parse_address(self.source)

    @property
    def is_simulated(self) -> bool:
        """Whether it films the simulated world, whose truth is known."""
        return self.address.kind == "sim"

    @property
    def public_source(self) -> str:
        """The source without a password, for whatever a person or a log sees."""
        return public_source(self.source)


def is_camera_id(name: str) -> bool:
    """Whether a camera may be called so: the name becomes a part of paths and keys."""
    return CAMERA_ID.fullmatch(name) is not None and ".." not in name


def make_camera(camera_id: str, source: str, **policy: object) -> Camera:
    """A `Camera`, with what is wrong in one line. Raises `BadInput`."""
    try:
        return Camera(camera_id=camera_id, source=source, **policy)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ').rstrip('.')}"
            for e in error.errors()
        )
        raise BadInput(f"This camera cannot be added: {wrong}.") from error


def add_camera(stores: Stores, camera: Camera, replace: bool = False) -> bool:
    """Enter a camera; whether it is new. The same camera again is fine, another under its name is not.

    Raises `BadInput` when the name is taken, unless `replace`: then the row gets the new source and policy.
    """
    from sqlalchemy import delete
    from sqlalchemy.dialects.postgresql import insert

    from its_platform.stores.audit import record
    from its_platform.stores.schema import CameraRow, IngestMark

    with stores.database.session() as session:
        values = camera.model_dump()
        added = session.execute(
            insert(CameraRow).values(**values).on_conflict_do_nothing().returning(CameraRow.camera_id)
        ).scalar()
        if added is not None:
            record(session, "camera.added", camera.camera_id, detail=_told(camera))
            return True
        row = session.get(CameraRow, camera.camera_id, with_for_update=True)
        if row is not None and _camera(row) != camera:
            if not replace:
                raise BadInput(
                    f"There is another camera {camera.camera_id!r} already ({_camera(row).public_source}).",
                    "Choose another name, or pass --replace.",
                )
            before = _told(_camera(row))
            for name, value in values.items():
                setattr(row, name, value)
            # How far the former source was taken in says nothing of this one.
            session.execute(delete(IngestMark).where(IngestMark.camera_id == camera.camera_id))
            record(session, "camera.changed", camera.camera_id, detail={"before": before, "after": _told(camera)})
        return False


def get_camera(stores: Stores, camera_id: str) -> Camera:
    """The camera of that name. Raises `NotFound` naming the ones there are."""
    from its_platform.stores.schema import CameraRow

    with stores.database.session() as session:
        row = session.get(CameraRow, camera_id)
        camera = None if row is None else _camera(row)
    if camera is None:
        known = ", ".join(c.camera_id for c in list_cameras(stores)[:10])
        raise NotFound(f"There is no camera {camera_id!r}.", f"Known are: {known or 'none yet; `its camera add`'}.")
    return camera


def list_cameras(stores: Stores, enabled_only: bool = False) -> list[Camera]:
    """All cameras by name."""
    from sqlalchemy import select

    from its_platform.stores.schema import CameraRow

    with stores.database.session() as session:
        rows = session.scalars(select(CameraRow).order_by(CameraRow.camera_id)).all()
        cameras = [_camera(row) for row in rows]
    return [camera for camera in cameras if camera.enabled or not enabled_only]


def remove_camera(stores: Stores, camera_id: str) -> None:
    """Take a camera from the registry. Its frames stay. Raises `NotFound`."""
    from sqlalchemy import delete

    from its_platform.stores.audit import record
    from its_platform.stores.schema import CameraRow, IngestMark

    camera = get_camera(stores, camera_id)
    with stores.database.session() as session:
        session.execute(delete(IngestMark).where(IngestMark.camera_id == camera_id))
        gone = delete(CameraRow).where(CameraRow.camera_id == camera_id).returning(CameraRow.camera_id)
        if session.scalar(gone) is not None:
            record(session, "camera.removed", camera_id, detail=_told(camera))


def _told(camera: Camera) -> dict[str, object]:
    """A camera without its password; one whose address a later version refuses is changed and removed all the same."""
    try:
        source = camera.public_source
    except BadInput:
        source = "an address that cannot be read"
    return {**camera.model_dump(exclude={"camera_id"}), "source": source}


def _camera(row: CameraRow) -> Camera:
    # Not validated again: a stored address that a later version refuses must still be listed and removed.
    return Camera.model_construct(
        camera_id=row.camera_id,
        source=row.source,
        site=row.site,
        privacy=cast(Privacy, row.privacy),
        sample_interval_s=float(row.sample_interval_s),
        enabled=row.enabled,
    )
