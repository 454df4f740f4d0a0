"""What dbt makes of frames, labels and predictions: staging and marts as assets, each data test as an asset check.

dagster-dbt runs it. What there is to run is read from `dbt/graph.json`, which `assets/dbt_graph.py` writes.
"""

import json
from collections.abc import Iterator
from typing import Any

import dagster as dg

from its_platform.errors import BadInput
from its_platform.resources import StoresResource, told_to_dagster
from its_platform.settings import REPOSITORY, load_settings

GRAPH = REPOSITORY / "dbt" / "graph.json"


class Build(dg.Config):
    """How to build. `anew`: marts that grow by increments are built from nothing."""

    anew: bool = False


def read_graph() -> tuple[list[dg.AssetSpec], list[dg.AssetCheckSpec]]:
    """The specs of `dbt/graph.json`. Raises `BadInput` where the file is missing or damaged."""
    try:
        graph = json.loads(GRAPH.read_text("utf-8"))
        kinds = {"dbt", load_settings().warehouse_target}
        return [_asset(entry, kinds) for entry in graph["assets"]], [_check(entry) for entry in graph["checks"]]
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(
            f"{GRAPH} cannot be read: {error}.", "`git checkout dbt/graph.json`, then `make docs`."
        ) from error


def _asset(entry: dict[str, Any], kinds: set[str]) -> dg.AssetSpec:
    columns = [dg.TableColumn(**column) for column in entry["columns"]]
    return dg.AssetSpec(
        key=dg.AssetKey.from_user_string(entry["key"]),
        deps=[dg.AssetKey.from_user_string(name) for name in entry["deps"]],
        description=entry["description"],
        group_name=entry["group"],
        owners=entry["owners"],
        kinds=kinds,
        # What follows a failed test is left out by dbt.
        skippable=True,
        metadata={"dagster/column_schema": dg.TableSchema(columns)} if columns else {},
    )


def _check(entry: dict[str, Any]) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        name=entry["name"],
        asset=dg.AssetKey.from_user_string(entry["asset"]),
        additional_deps=[dg.AssetKey.from_user_string(name) for name in entry["deps"]],
        description=entry["description"],
        blocking=entry["blocking"],
    )


_SPECS, _CHECK_SPECS = read_graph()


@dg.multi_asset(name="dbt_build", specs=_SPECS, check_specs=_CHECK_SPECS)
def marts(context: dg.AssetExecutionContext, config: Build, stores: StoresResource) -> Iterator[Any]:
    """Load the warehouse, build and test it with dbt, and show what came out."""
    with told_to_dagster():
        events, rows, failure = _build(context, config.anew, stores)
    for event in events:
        if isinstance(event, dg.Output) and event.output_name in rows:
            counted = {**event.metadata, "dagster/row_count": dg.MetadataValue.int(rows[event.output_name])}
            event = dg.Output(None, output_name=event.output_name, metadata=counted)
        yield event
    if failure:
        raise dg.Failure(failure, allow_retries=False)


def _build(
    context: dg.AssetExecutionContext, is_anew: bool, stores: StoresResource
) -> tuple[list[Any], dict[str, int], str]:
    """Dagster's events of one build, the rows of each mart, and what went wrong, if anything did."""
    from dagster_dbt.errors import DagsterDbtCliRuntimeError

    from assets.dbt_graph import MartsTranslator, invoke
    from its_platform.monitoring.marts import mart_sizes, prepared_build

    opened = stores.open()
    events: list[Any] = []
    failed: list[str] = []
    with prepared_build(opened, is_anew) as build:
        for one in build.loaded:
            context.log.info("%s: %d rows loaded%s", one.source, one.rows, " anew" if one.is_anew else "")
        invocation, translator = invoke(build, context), MartsTranslator()
        manifest: dict[str, Any] = {}
        error = None
        try:
            for event in invocation.stream_raw_events():
                info = event.raw_event["data"].get("node_info", {})
                if info.get("node_status") in {"fail", "error"} and info["node_name"] not in failed:
                    failed.append(info["node_name"])
                if not event.is_result_event:
                    continue
                # dbt writes it before it runs anything.
                manifest = manifest or invocation.get_artifact("manifest.json")
                events += event.to_default_asset_events(manifest, translator, context, build.target_path)
        except DagsterDbtCliRuntimeError as raised:
            error = raised
        if error is not None and not failed:
            return events, {}, f"dbt could not build: {error}"
        rows = mart_sizes(opened.settings, manifest or invocation.get_artifact("manifest.json"))
    return events, rows, f"dbt: {', '.join(failed)} failed." if failed else ""


ASSETS = [marts]
CHECKS: list[dg.AssetChecksDefinition] = []
