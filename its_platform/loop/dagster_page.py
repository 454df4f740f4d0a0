"""Reading Dagster as a person at its page does: over the page's own GraphQL.

The demo watches runs through this and calls none of the platform's assets itself.
"""

from __future__ import annotations

from dataclasses import dataclass

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
