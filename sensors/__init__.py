"""Dagster sensors, one file for what each watches, and the one schedule.

A sensor reads, calls one pure function that decides, and returns one result with the numbers that led to it.
A cursor moves only after a successful read.
"""

from __future__ import annotations

import dagster as dg

from its_platform.settings import load_settings
from sensors.canary import canary_sensor
from sensors.drift import drift_sensor
from sensors.footage import footage_sensor
from sensors.marts import marts_schedule
from sensors.predictions import predictions_sensor
from sensors.registry import registry_sensor


def all_sensors() -> list[dg.SensorDefinition]:
    """Every sensor, at the interval and in the state that the settings give."""
    settings = load_settings().sensors
    status = dg.DefaultSensorStatus.RUNNING if settings.running else dg.DefaultSensorStatus.STOPPED
    made = (footage_sensor, predictions_sensor, drift_sensor, registry_sensor, canary_sensor)
    return [make(settings.interval_s, status) for make in made]


def all_schedules() -> list[dg.ScheduleDefinition]:
    """What starts by the clock; stopped where the sensors are."""
    settings = load_settings()
    status = dg.DefaultScheduleStatus.RUNNING if settings.sensors.running else dg.DefaultScheduleStatus.STOPPED
    return [marts_schedule(settings.marts.every_hours, status)]
