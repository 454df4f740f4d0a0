"""The Tritons of this home that serve the same repository, each as settings of its own.

Enters: settings. Leaves: one settings tree for each replica, by which everything that deals with one server deals with
that one, and the addresses of all. Who asks which of them is the client's business.
"""

from __future__ import annotations

from its_platform.settings import Settings

PORTS = ("triton_http", "triton_grpc", "triton_metrics")


def replica_settings(settings: Settings) -> tuple[Settings, ...]:
    """The settings of each replica; the first are `settings` themselves."""
    return (settings, *(_further(settings, number) for number in range(1, settings.serving.replicas)))


def addresses(settings: Settings) -> tuple[str, ...]:
    """`host:port` of every replica's gRPC."""
    return tuple(one.triton_grpc for one in replica_settings(settings))


def figures_ports(settings: Settings) -> dict[str, int]:
    """The port of each replica's figures for Prometheus, on 127.0.0.1, by the name of its part."""
    return {
        "triton" if number == 1 else f"triton-{number}": own.ports.triton_metrics
        for number, own in enumerate(replica_settings(settings), start=1)
    }


def live_endpoints(settings: Settings) -> tuple[str, ...]:
    """Where live pictures go: what the settings name, else every replica."""
    return settings.serving.endpoints or addresses(settings)


def _further(settings: Settings, number: int) -> Settings:
    first = settings.ports.triton_replicas + (number - 1) * len(PORTS)
    ports = settings.ports.model_copy(update={name: first + offset for offset, name in enumerate(PORTS)})
    return settings.model_copy(update={"ports": ports})
