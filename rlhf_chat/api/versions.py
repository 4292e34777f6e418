"""Versions as models of the API: "live", "base", and each version as "v3" or by the name the person
gave it."""

from __future__ import annotations

from typing import Any

from rlhf_chat.api.errors import Refusal
from rlhf_chat.db import AdapterVersion
from rlhf_chat.versions.registry import VersionRegistry

LIVE, BASE = "live", "base"


def usable(registry: VersionRegistry) -> list[AdapterVersion]:
    """The base and the versions made for the base model in use."""
    here = registry.model.base_hash
    return [v for v in registry.all() if not v.version or registry.base_of(v.version) == here]


def model_id(version: int) -> str:
    return f"v{version}" if version else BASE


def models(registry: VersionRegistry) -> list[dict[str, Any]]:
    """Every model of the API, the live one first."""
    live = registry.model.live.version
    return [
        {"id": LIVE, "object": "model", "owned_by": "rlhf-chat", "created": 0, "version": live},
        *(
            {
                "id": model_id(v.version),
                "object": "model",
                "owned_by": "rlhf-chat",
                "created": 0,
                "version": v.version,
                "name": v.name,
            }
            for v in usable(registry)
        ),
    ]


def version_of(registry: VersionRegistry, name: str) -> int | None:
    """The version that answers as this model; None for the live one. Raises Refusal."""
    if name in ("", LIVE):
        return None
    found = [v.version for v in usable(registry) if name in (model_id(v.version), v.name)]
    if not found:
        raise Refusal(404, "api.unknown_model", field="model", name=name)
    return found[-1]


def described(registry: VersionRegistry) -> list[dict[str, Any]]:
    """Every version with what is known of it, the base first."""
    live = registry.model.live.version
    return [as_json(version, live) for version in usable(registry)]


def as_json(version: AdapterVersion, live: int) -> dict[str, Any]:
    return {
        "version": version.version,
        "id": model_id(version.version),
        "name": version.name,
        "live": version.version == live,
        "tier": version.tier,
        "parent": version.parent,
        "created_at": version.created_at,
    }
