"""dagster-dbt's view of the marts, and the file that keeps it: `python -m assets.dbt_graph` writes `dbt/graph.json`.

Importing dagster-dbt takes longer than the rest of the code location together, and its specs need dbt's manifest, a
megabyte that differs from machine to machine. So its asset and check specs are kept beside the models, and
`assets/marts.py` reads them from there. A test compares the file with what dagster-dbt says of the models. Nothing
imports this module but a run of the marts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.metadata import version as installed
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliInvocation
from dagster_dbt.asset_utils import build_dbt_specs
from packaging.version import Version

from assets.marts import GRAPH
from its_platform.monitoring.marts import PROJECT, DbtBuild, parse_project

GROUP = "marts"
OWNERS = ["team:data"]
_COLUMNS = "dagster/column_schema"


class MartsTranslator(DagsterDbtTranslator):
    """A model is an asset of its own name in the group `marts`; a source is the asset that wrote it (its `meta`)."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        if dbt_resource_props["resource_type"] == "source":
            return super().get_asset_key(dbt_resource_props)
        return dg.AssetKey(dbt_resource_props["name"])

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        return str(dbt_resource_props["description"])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        return GROUP

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
        return OWNERS


def graph_of(manifest: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The assets and checks that dagster-dbt makes of a manifest, as JSON, in a fixed order."""
    specs, checks = build_dbt_specs(
        translator=MartsTranslator(),
        manifest=manifest,
        select="fqn:*",
        exclude="",
        selector="",
        io_manager_key=None,
        project=None,
    )
    return {
        "assets": sorted((_asset(spec) for spec in specs), key=lambda entry: str(entry["key"])),
        "checks": sorted(
            (_check(check, manifest) for check in checks), key=lambda entry: (entry["asset"], entry["name"])
        ),
    }


def invoke(build: DbtBuild, context: dg.AssetExecutionContext) -> DbtCliInvocation:
    """dbt under dagster-dbt. Not by `DbtCliResource.cli`, which asks `dbt --version` first, and that asks PyPI."""
    return DbtCliInvocation.run(
        args=build.argv,
        env={**build.environment, "DBT_LOG_FORMAT": "json"},
        manifest={},
        dagster_dbt_translator=MartsTranslator(),
        project_dir=PROJECT,
        target_path=build.target_path,
        raise_on_error=True,
        context=context,
        adapter=None,
        cli_version=Version(installed("dbt-core")),
    )


def _asset(spec: dg.AssetSpec) -> dict[str, Any]:
    schema = spec.metadata.get(_COLUMNS)
    return {
        "key": spec.key.to_user_string(),
        "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
        "description": spec.description,
        "group": spec.group_name,
        "owners": list(spec.owners),
        "columns": [
            {"name": column.name, "type": column.type, "description": column.description or ""}
            for column in (schema.columns if schema else [])
        ],
    }


def _check(check: dg.AssetCheckSpec, manifest: Mapping[str, Any]) -> dict[str, Any]:
    node = manifest["nodes"][check.metadata["dagster_dbt/unique_id"]]
    return {
        "name": check.name,
        "asset": check.asset_key.to_user_string(),
        "deps": sorted(dep.asset_key.to_user_string() for dep in check.additional_deps),
        "blocking": check.blocking,
        "description": node.get("description") or _said(node),
    }


def _said(node: Mapping[str, Any]) -> str:
    """A generic test in words: `not_null: camera_id`."""
    generic = node["test_metadata"]
    told = {name: value for name, value in generic["kwargs"].items() if name not in {"model", "column_name"}}
    column = f": {node['column_name']}" if node.get("column_name") else ""
    return f"dbt test {generic['name']}{column}{f' {json.dumps(told)}' if told else ''}"


def main() -> None:
    """Write the file anew from the models as they stand."""
    from its_platform.settings import load_settings

    GRAPH.write_text(json.dumps(graph_of(parse_project(load_settings())), indent=1) + "\n")
    sys.stdout.write(f"wrote {GRAPH}\n")


if __name__ == "__main__":
    main()
