"""What further Tritons are called and where they listen, and that the stack knows them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from its_platform.alerting.prometheus import configuration
from its_platform.doctor.machine import check_ports
from its_platform.errors import BadInput, NotFound
from its_platform.parts import PARTS, part_named, parts_of
from its_platform.serving.client import DetectorClient
from its_platform.serving.processes import home_prefix, shared_memory_prefix
from its_platform.serving.replicas import addresses, figures_ports, live_endpoints, replica_settings
from its_platform.settings import Settings, load_settings


@pytest.fixture
def three(settings: Settings) -> Settings:
    return load_settings(
        home=settings.home, serving={"replicas": 3}, ports={"triton_grpc": 9001, "triton_replicas": 9110}
    )


def test_the_first_replica_has_the_ports_of_old_and_the_others_three_each_in_a_row(three: Settings) -> None:
    assert addresses(three) == ("127.0.0.1:9001", "127.0.0.1:9111", "127.0.0.1:9114")
    _, second, third = replica_settings(three)
    assert [second.ports.triton_http, second.ports.triton_grpc, second.ports.triton_metrics] == [9110, 9111, 9112]
    assert third.ports.triton_metrics == 9115
    assert {one.model_repository for one in replica_settings(three)} == {three.model_repository}


def test_live_pictures_go_to_every_replica_unless_the_settings_name_others(three: Settings) -> None:
    assert live_endpoints(three) == addresses(three)
    elsewhere = three.model_copy(update={"serving": three.serving.model_copy(update={"endpoints": ("a:1",)})})
    assert live_endpoints(elsewhere) == ("a:1",)


def test_a_port_that_a_replica_needs_is_nobody_elses(settings: Settings) -> None:
    with pytest.raises(BadInput, match="mlflow has 9112"):
        load_settings(home=settings.home, serving={"replicas": 2}, ports={"mlflow": 9112, "triton_replicas": 9110})
    load_settings(home=settings.home, serving={"replicas": 1}, ports={"mlflow": 9112, "triton_replicas": 9110})
    with pytest.raises(ValidationError):
        Settings(serving={"replicas": 0})


def test_replicas_of_a_home_share_no_memory(three: Settings) -> None:
    prefixes = [shared_memory_prefix(one) for one in replica_settings(three)]
    assert len(set(prefixes)) == 3
    assert all(prefix.startswith(home_prefix(three)) for prefix in prefixes)


def test_each_replica_is_a_part_of_the_stack_with_its_own_address(three: Settings, settings: Settings) -> None:
    names = [part.name for part in parts_of(three)]
    assert names[:3] == ["triton", "triton-2", "triton-3"]
    assert [part.address(three) for part in parts_of(three)[:3]] == list(addresses(three))
    assert parts_of(settings) == tuple(part for part in PARTS if part.is_wanted(settings))
    assert part_named("triton-2", three).own(three).ports.triton_grpc == 9111
    with pytest.raises(NotFound, match="triton-2"):
        part_named("triton-2", settings)
    assert "9114" in check_ports(three)[0].finding


def test_admin_calls_go_to_the_one_replica_whose_settings_are_given(three: Settings) -> None:
    asked = []
    for one in replica_settings(three):
        client = DetectorClient(one, connect=asked.append)
        asked.append(client._addresses)
    assert asked == list(addresses(three))


def test_the_figures_of_each_replica_are_asked_of_the_exporter_over_tls(three: Settings) -> None:
    assert figures_ports(three) == {"triton": 8102, "triton-2": 9112, "triton-3": 9115}
    (job,) = [one for one in configuration(three)["scrape_configs"] if one["job_name"] == "triton"]
    assert job["scheme"] == "https"
    assert [(one["targets"], one["labels"]) for one in job["static_configs"]] == [
        ([f"127.0.0.1:{three.ports.metrics}"], {"part": part, "__metrics_path__": f"/{part}"})
        for part in ("triton", "triton-2", "triton-3")
    ]
