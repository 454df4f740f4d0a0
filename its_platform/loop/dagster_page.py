"""Dagster as a person at its page sees it: over the page's own GraphQL.

The plays watch runs through this, start one where a person would, and call none of the platform's assets themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from its_platform.errors import ServerUnavailable
from its_platform.settings import Settings
from its_platform.stack import dagster_query

_RUNS = """
query Runs($job: String!) {
  runsOrError(filter: {pipelineName: $job}, limit: 50) {
    __typename
    ... on Runs { results { runId status startTime endTime tags { key value } } }
    ... on PythonError { message }
  }
}
"""
_FAILURE = """
query Failure($run: ID!) {
  logsForRun(runId: $run) {
    ... on EventConnection {
      events {
        __typename
        ... on ExecutionStepFailureEvent { stepKey error { message cause { message } } failureMetadata { description } }
        ... on RunFailureEvent { error { message } }
        ... on AssetCheckEvaluationEvent { evaluation { checkName success description } }
      }
    }
  }
}
"""
_PLACE = """
query Place { repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }
"""
_START = """
mutation Start($asked: ExecutionParams!) {
  launchRun(executionParams: $asked) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on PythonError { message }
  }
}
"""
FINISHED = ("SUCCESS", "FAILURE", "CANCELED")


@dataclass(frozen=True)
class Run:
    """One run of a job; times are seconds since 1970, None until they are known."""

    run_id: str
    job: str
    status: str
    started: float | None
    ended: float | None
    tags: dict[str, str]

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED


def runs_of(settings: Settings, job: str) -> list[Run]:
    """The runs of `job`, oldest first. Raises `ServerUnavailable`."""
    answer = dagster_query(settings, _RUNS, {"job": job})["runsOrError"]
    if answer["__typename"] != "Runs":
        raise ServerUnavailable(
            f"Dagster could not list the runs of {job}: {answer.get('message', answer['__typename'])}."
        )
    runs = [
        Run(r["runId"], job, r["status"], r["startTime"], r["endTime"], {t["key"]: t["value"] for t in r["tags"]})
        for r in answer["results"]
    ]
    return runs[::-1]


def start_run(settings: Settings, job: str, config: dict[str, Any], trigger: str) -> str:
    """Start a job as a person does at its launchpad; the run's id. Raises `ServerUnavailable` when it is refused."""
    nodes: Any = dagster_query(settings, _PLACE)["repositoriesOrError"].get("nodes") or []
    if not nodes:
        raise ServerUnavailable("Dagster has loaded no jobs.", "`its doctor` says more.")
    place = {"repositoryName": nodes[0]["name"], "repositoryLocationName": nodes[0]["location"]["name"]}
    asked = {
        "selector": {**place, "jobName": job},
        "runConfigData": config,
        "executionMetadata": {"tags": [{"key": "its/trigger", "value": trigger}]},
    }
    answer: Any = dagster_query(settings, _START, {"asked": asked})["launchRun"]
    if answer["__typename"] != "LaunchRunSuccess":
        told = answer.get("message") or "; ".join(one["message"] for one in answer.get("errors", []))
        raise ServerUnavailable(f"Dagster did not start {job}: {told or answer['__typename']}")
    return str(answer["run"]["runId"])


def why_failed(settings: Settings, run_id: str) -> list[str]:
    """What the run's log gives as the reasons of its failure, the deepest first."""
    events = dagster_query(settings, _FAILURE, {"run": run_id})["logsForRun"].get("events", [])
    reasons: list[str] = []
    for event in events:
        check = event.get("evaluation")
        if check and not check["success"]:
            reasons.append(f"check {check['checkName']}: {check['description']}")
        told = event.get("failureMetadata")
        if told and told.get("description"):
            reasons.append(f"{event['stepKey']}: {told['description']}")
        error = event.get("error")
        if error:
            deepest = error.get("cause") or error
            reasons.append(deepest["message"].strip().splitlines()[-1])
    return reasons or ["the run's log gives no reason"]
