"""A host follows the publisher: one pass brings its Triton to what the signed wish says, as far as that can be trusted.

The store of published versions, the publisher's public key and a Triton enter; a `SyncPass` leaves. Versions are
placed, loaded, checked and routed by the same functions as where they were released, a stage at a time, so that one
bad version keeps no other from being served. What is refused changes nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from its_platform.errors import NotFound, PermanentError, TransientError
from its_platform.private_files import alone
from its_platform.release.hosts.documents import WISH_KEY, Wish, Wished, read_wish
from its_platform.release.hosts.fetching import described, fetch
from its_platform.release.hosts.passes import (
    SyncPass,
    accept_generation,
    accepted_generation,
    last_pass,
    state_path,
    write_pass,
)
from its_platform.release.hosts.place import Shelf, host_public_key, host_shelf
from its_platform.release.hosts.signing import PublicationRefused, read_public
from its_platform.release.outside import Placing, Routes
from its_platform.release.placing import VersionDoesNotServe, bring_up, lead_traffic, take_down
from its_platform.release.reconciling import MOST_FAILURES
from its_platform.release.stages import SERVED
from its_platform.serving.config import contract_of
from its_platform.serving.repository import Route, state_folder
from its_platform.settings import Settings
from its_platform.stores.objects import no_room


def host_placing(settings: Settings) -> Placing:
    """The Triton of this host; its probe is a rendered street, since a host has no frames."""
    from its_platform.release import measured
    from its_platform.release.triton import TritonServer

    return Placing(
        server=TritonServer(settings), run_onnx=measured.run_onnx, picture=lambda version: measured.rendered_street()
    )


def sync(settings: Settings, placing: Placing | None = None, is_anew: bool = False) -> SyncPass:
    """One pass; another one that runs is waited for. is_anew: try what failed too often once more.

    Raises `BadInput` where this home is no host or has no key.
    """
    shelf, key = host_shelf(settings), read_public(host_public_key(settings))
    placing = placing or host_placing(settings)
    state_folder(settings).mkdir(parents=True, exist_ok=True)
    with alone(state_path(settings).with_suffix(".lock")):
        before = last_pass(settings, key)
        failures = before.failures if before is not None and not is_anew else {}
        follower = _Follower(settings, shelf, key, placing, accepted_generation(settings, key), failures)
        try:
            follower.follow()
        except TransientError as error:
            follower.problem = str(error)
        except PermanentError as error:
            follower.refused.append(str(error))
        except OSError as error:
            if (full := no_room(state_folder(settings), error)) is None:
                raise
            follower.problem = str(full)
        done = follower.result()
        write_pass(settings, key, done)
        return done


class _Follower:
    """One pass under way, and what has come of it."""

    def __init__(
        self,
        settings: Settings,
        shelf: Shelf,
        key: Ed25519PublicKey,
        placing: Placing,
        generation: int,
        failures: Mapping[str, int],
    ) -> None:
        self.settings, self.shelf, self.key, self.placing = settings, shelf, key, placing
        self.generation = generation
        self.failures = dict(failures)
        self.fetched: list[str] = []
        self.removed: list[str] = []
        self.refused: list[str] = []
        self.problem = ""
        self._incoming = state_folder(settings) / "incoming"

    def follow(self) -> None:
        wish = self._wish()
        if wish.generation > self.generation:
            # At once: a pass that is cut off must not have an older wish followed after it.
            self.generation, self.failures = wish.generation, {}
            accept_generation(self.settings, self.key, wish.generation)
        server = self.placing.server
        for model, versions in server.broken().items():
            # Triton loads nothing of a model while a version of it is not whole; what is wished is fetched again.
            for version in versions:
                server.remove(model, version)
        for stage in SERVED:
            if (wished := wish.stages.get(stage)) is not None:
                self._settle(stage, wished)
        routes = server.routed() or {}
        if ended := [stage for stage in routes if stage not in wish.stages]:
            server.route({stage: route for stage, route in routes.items() if stage not in ended})
        self._remove_unwished(wish)

    def result(self) -> SyncPass:
        routes = self.placing.server.routed() or {}
        return SyncPass(
            at=datetime.now(UTC),
            generation=self.generation,
            serves={stage: route.version for stage, route in routes.items()},
            fetched=tuple(self.fetched),
            removed=tuple(self.removed),
            refused=tuple(self.refused),
            problem=self.problem,
            failures=self.failures,
        )

    def _wish(self) -> Wish:
        try:
            stored = self.shelf.store.get(WISH_KEY)
        except NotFound:
            raise PublicationRefused(
                f"There is no {WISH_KEY} at {self.shelf.name}.", "The first release there writes it."
            ) from None
        wish = read_wish(self.key, stored)
        if wish.generation < self.generation:
            raise PublicationRefused(
                f"{WISH_KEY} is of generation {wish.generation}, and {self.generation} was followed here already.",
                "Somebody put an old one back; `its serving publish` writes a new one.",
            )
        return wish

    def _settle(self, stage: str, wished: Wished) -> None:
        """Have a stage served as wished, or leave it as it is and say why."""
        server, route = self.placing.server, wished.route
        routes = server.routed() or {}
        held = server.placed().get(route.model, set()) & server.ready().get(route.model, set())
        is_served = routes.get(stage) == route and route.version in held
        name = f"version {route.version} of {route.model}"
        if not is_served and self.failures.get(name, 0) >= MOST_FAILURES:
            # It waits for a person, or for the next wish.
            self.refused.append(f"{stage}: {name} failed {MOST_FAILURES} times; `its serving sync` tries it again.")
            return
        try:
            if is_served:
                # The same number may be wished with another content; whether the files are whole, `broken` tells.
                described(self._folder(route), wished)
            else:
                self._serve(stage, wished, routes)
            self.failures.pop(name, None)
        except PermanentError as error:
            self.refused.append(f"{stage}: {error}")
            if isinstance(error, VersionDoesNotServe):
                self.failures[name] = self.failures.get(name, 0) + 1

    def _serve(self, stage: str, wished: Wished, routes: Routes) -> None:
        server, route = self.placing.server, wished.route
        model, number = route.model, route.version
        in_use = any((kept.model, kept.version) == (model, number) for kept in routes.values())
        is_here = number in server.placed().get(model, set())
        if is_here:
            folder = self._folder(route)
            version = described(folder, wished)
        else:
            folder = self._incoming / f"{model}-{number}"
            version = fetch(self.shelf, self.key, wished, folder)
        if not is_here or number not in server.ready().get(model, set()):
            bring_up(self.placing, version, route, folder / contract_of(model).format.file, in_use)
        lead_traffic(self.placing, version, stage, route, routes, in_use)
        if not is_here:
            shutil.rmtree(folder)
            self.fetched.append(f"version {number} of {model}")

    def _folder(self, route: Route) -> Path:
        """Where a version that is placed lies."""
        return self.settings.model_repository / route.model / str(route.version)

    def _remove_unwished(self, wish: Wish) -> None:
        """What no stage has any more. A stage whose wish was refused keeps what it has."""
        server = self.placing.server
        kept = {(route.model, route.version) for route in (server.routed() or {}).values()}
        for model, versions in server.placed().items():
            for version in sorted(versions):
                if (model, version) not in kept:
                    take_down(server, model, version)
                    self.removed.append(f"version {version} of {model}")
        wished = {f"{one.route.model}-{one.route.version}" for one in wish.stages.values()}
        for left in self._incoming.glob("*"):
            # What was begun and is still wished goes on from there.
            if left.name not in wished:
                shutil.rmtree(left, ignore_errors=True)
