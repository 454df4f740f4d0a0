"""What the platform promises on real servers: each is killed while the loop runs, the disk under S3 is full, a network
stalls or drops, a certificate expires; the loop finishes, and nothing acknowledged is missing or there twice.

One stack of the services profile, one fault after another, in the order of this file.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from redis import Redis, RedisError

from faults import test_faults as embedded
from faults.relay import behind_relay
from faults.stand import PATIENCE_S, UNFINISHED, Stand, full_disk, is_back, kill_part, until
from faults.test_faults import count_frames, feed, missing_live, reported, wait_taken_in
from its_platform import certificates
from its_platform.demo.run import segment_times
from its_platform.doctor import loop, machine, servers
from its_platform.serving.client import detect_once
from its_platform.stack import renew_certificates, restart_part
from its_platform.stores import postgres
from its_platform.stores.cache_server import redis_url
from its_platform.stores.database import dispose_engines

PROFILE = "services"
pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.services, pytest.mark.timeout(3600)]

AWAY_S = 20.0

# At rest, and while frames are taken in

test_a_killed_triton = embedded.test_a_killed_triton_is_started_again_and_serves_the_same_version


def test_without_redis_the_front_answers_and_shares_again_when_it_is_back(stand: Stand) -> None:
    version = stand.version()
    until(lambda: is_shared(stand), "an answer gets into Redis", poll_s=1.0)
    with stand.fault("kill -9", "Redis") as record:
        killed = kill_part(stand.settings, "redis")
        stand.named(record, "Redis: has died", servers.check_servers)
        ask_live(stand)
        until(lambda: is_back(stand.settings, "redis", killed), "Redis is back")
        # Nothing of its past was kept, so that what it holds came after it was back.
        until(lambda: is_shared(stand), "an answer gets into the new Redis", poll_s=1.0)
        stand.serves(version)


def test_an_s3_server_killed_while_frames_are_taken_in_costs_none(stand: Stand) -> None:
    with stand.fault("kill -9 while frames are taken in", "S3 server") as record:
        since, to = segment_times(stand.demo, "live day")
        until(lambda: stand.runs("ingest", "STARTED"), "frames are taken in", poll_s=0.02)
        killed = kill_part(stand.settings, "objects")
        stand.named(record, "S3 server: has died", servers.check_servers)
        until(lambda: is_back(stand.settings, "objects", killed), "the S3 server is back")
        wait_taken_in(stand, to)
        count_frames(stand, record, since, to)


test_a_killed_daemon = embedded.test_a_daemon_killed_while_a_run_is_queued_leaves_the_run_to_the_next_daemon


def test_a_full_disk_under_the_s3_server_is_named_and_ingest_goes_on_when_there_is_room(stand: Stand) -> None:
    if not stand.has_own_disk:
        pytest.skip("mounting is not allowed here, so no disk can be made full; the unit tests fill one by its error")
    stood = len(list(stand.stores.objects.list("frames/")))
    with stand.fault("disk full", "S3 server") as record:
        with full_disk(stand):
            since, to = segment_times(stand.demo, "live night")
            stand.named(record, "is full", machine.check_disk)
            until(lambda: stand.runs("ingest", *UNFINISHED, "FAILURE"), "an ingest meets it")
            stand.named(record, "object store", loop.check_runs, within_s=PATIENCE_S)
            assert len(list(stand.stores.objects.list("frames/"))) >= stood
        wait_taken_in(stand, to)
        count_frames(stand, record, since, to)


# The network


def test_a_network_to_s3_that_drops_delays_the_frames(stand: Stand) -> None:
    with behind_relay(stand.settings, "objects") as network:
        stand.well(servers.check_servers)
        with stand.fault("network drops", "S3 server") as record:
            since, to = segment_times(stand.demo, "canary night")
            until(lambda: stand.runs("ingest", "STARTED"), "frames are taken in", poll_s=0.02)
            network.cut()
            stand.named(record, "S3 server", servers.check_servers)
            time.sleep(AWAY_S)
            network.mend()
            wait_taken_in(stand, to)
            count_frames(stand, record, since, to)
    stand.well(servers.check_servers)


@pytest.mark.parametrize("fault", ["stalls", "drops"])
def test_a_network_to_the_database_that_fails_delays_the_loop(stand: Stand, fault: str) -> None:
    purpose = {"stalls": "live day", "drops": "nightfall"}[fault]
    since, to = segment_times(stand.demo, purpose)
    with behind_relay(stand.settings, "postgres") as network:
        stand.well(servers.check_database)
        with stand.fault(f"network {fault}", "database") as record:
            record.acknowledged += feed(stand, since, to)
            # What this process had open would wait with the others, and say nothing.
            dispose_engines()
            (network.stall if fault == "stalls" else network.cut)()
            stand.named(record, "database", servers.check_database)
            time.sleep(AWAY_S)
            network.mend()
            until(lambda: reported(stand, since, to), "the report on the window")
            missing_live(stand, record, since, to)
    stand.well(servers.check_database)


def test_a_certificate_that_ran_out_is_named_and_a_new_one_lets_the_loop_go_on(stand: Stand) -> None:
    since, to = segment_times(stand.demo, "live night again")
    with stand.fault("expired certificate", "every server") as record:
        ago = datetime.now(UTC) - timedelta(days=2)
        certificates.renew_certificates(stand.settings.certificates, [], days=1, since=ago)
        postgres.renew_certificate(stand.settings)
        restart_part(stand.settings, "objects", is_patient=False)
        stand.named(record, "expired", servers.check_certificates)
        time.sleep(AWAY_S)
        renew_certificates(stand.settings, [], certificates.DAYS)
        restart_part(stand.settings, "objects")
        wait_taken_in(stand, to)
        stand.well(servers.check_servers, servers.check_database)
        count_frames(stand, record, since, to)


# A retraining, broken off at each of its fixed points

test_a_killed_database = embedded.test_a_database_killed_while_a_dataset_is_built_delays_the_training
test_a_killed_worker = embedded.test_a_run_worker_killed_while_it_trains_is_repeated
test_a_killed_mlflow = embedded.test_an_mlflow_page_killed_while_a_version_is_registered_is_started_again
test_a_killed_triton_that_loads = embedded.test_a_triton_killed_while_it_loads_a_version_ends_with_that_version_served

# The reckoning

test_the_reckoning = embedded.test_nothing_acknowledged_is_missing_or_there_twice_and_the_doctor_is_content


# What the tests above are made of


def ask_live(stand: Stand) -> None:
    """Have the front answer a live picture that it never saw; one that it remembers would not go to Redis again.

    Its time is that of the first dataset, and always the same: one row before all windows that drift is judged in.
    """
    picture = np.random.default_rng().integers(0, 255, (96, 160, 3), np.uint8)
    at, _ = segment_times(stand.demo, "first dataset")
    detect_once(stand.settings, picture, camera_id="sharing", captured_at=at, purpose="live")


def is_shared(stand: Stand) -> bool:
    """Whether Redis holds an answer, after the front was asked for one more."""
    ask_live(stand)
    url = redis_url(stand.settings)
    assert url is not None
    try:
        with Redis.from_url(url) as shared:
            return bool(shared.keys("its:answer:*"))
    except RedisError:
        return False
