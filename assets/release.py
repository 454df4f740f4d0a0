"""A registered version is staged in Triton, judged by its gates and, when they pass, served."""

import dagster as dg

from its_platform.resources import StoresResource, told_to_dagster

# The registry sensor's reconciler may hold the lease for as long as Triton takes to load a version.
LEASE_WAIT_S = 60.0


@dg.asset(
    group_name="release",
    owners=["team:mlops"],
    kinds={"triton", "mlflow"},
    description="The candidate in Triton at stage `staging`, proved by a real inference.",
)
def staged_release(context: dg.AssetExecutionContext, stores: StoresResource, candidate_model: int) -> dg.Output[int]:
    from its_platform.release import served, stage

    with told_to_dagster():
        opened = stores.open()
        stage(opened, candidate_model, by="dagster", why=f"candidate of run {context.run.run_id}", wait_s=LEASE_WAIT_S)
        release = served(opened, "staging")
    if release is None or release.version != candidate_model:
        raise dg.Failure(f"Version {candidate_model} was staged but is not what Triton answers with.")
    return dg.Output(
        candidate_model,
        metadata={"version": release.version, "digest": release.digest, "endpoint": release.endpoint},
    )


@dg.asset_check(asset=staged_release, blocking=True, description="Every gate of the candidate, each with its numbers.")
def gates_are_passed(stores: StoresResource, staged_release: int) -> dg.AssetCheckResult:
    from its_platform.release import gates_markdown, is_passed, judge_candidate, publish_card, waived_gates
    from its_platform.release.card_pages import as_markdown

    with told_to_dagster():
        opened = stores.open()
        results = judge_candidate(opened, staged_release)
        waived = waived_gates(opened, staged_release)
        card = publish_card(opened, staged_release)
    failed = [r for r in results if r.verdict in ("failed", "no_verdict")]
    return dg.AssetCheckResult(
        passed=is_passed(results, waived),
        description="; ".join(f"{r.name} {r.slice}: {r.detail}" for r in failed) or "every gate passed",
        metadata={
            "gates": dg.MetadataValue.md(gates_markdown(results, waived)),
            "model card": dg.MetadataValue.md(as_markdown(card)),
        },
    )


@dg.asset(
    group_name="release",
    owners=["team:mlops"],
    kinds={"triton", "mlflow"},
    description="The version in the live traffic: all of it, or a canary's share that grows while it proves itself.",
)
def production_release(
    context: dg.AssetExecutionContext, stores: StoresResource, staged_release: int
) -> dg.Output[int]:
    from its_platform.release import publish_cards, release, served

    with told_to_dagster():
        opened = stores.open()
        change = release(
            opened,
            staged_release,
            by="dagster",
            why=f"gates passed in run {context.run.run_id}",
            wait_s=LEASE_WAIT_S,
        )
        row = served(opened, change.stage)
        publish_cards(opened, [change])
    if row is None or row.version != staged_release:
        raise dg.Failure(f"Version {staged_release} was promoted but is not what Triton serves.", allow_retries=False)
    share = row.evidence.get("route", {}).get("percent", 0) if row.stage == "canary" else 100
    return dg.Output(
        row.version,
        metadata={
            "version": row.version,
            "stage": row.stage,
            "share of the live traffic": f"{share:g} %",
            "digest": row.digest,
            "served since": str(row.since),
            "endpoint": row.endpoint,
        },
    )


ASSETS = [staged_release, production_release]
CHECKS = [gates_are_passed]
