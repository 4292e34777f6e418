"""Versions as models of the API: "live", "base", and each version as "v3" or by the name the person
gave it."""

from __future__ import annotations

from typing import Any

from rlhf_chat.api.errors import Refusal
from rlhf_chat.db import AdapterVersion, Store
from rlhf_chat.errors import AdapterError
from rlhf_chat.versions.adapter_store import AdapterStore
from rlhf_chat.versions.registry import VersionRegistry

LIVE, BASE = "live", "base"


def usable(store: Store, adapters: AdapterStore, base_hash: str) -> list[AdapterVersion]:
    """The base and the versions made for the base model in use; "" is any base."""

    def fits(version: AdapterVersion) -> bool:
        try:
            manifest = adapters.manifest(version.version, version.manifest_hash)
        except AdapterError:
            return False
        return base_hash in ("", manifest.get("base_hash"))

    return [v for v in store.adapter_versions.all() if not v.version or fits(v)]


def number_of(store: Store, adapters: AdapterStore, base_hash: str, name: str) -> int | None:
    """The version that answers as this model; None for the live one. Raises Refusal."""
    if name in ("", LIVE):
        return None
    found = usable(store, adapters, base_hash)
    numbers = [v.version for v in found if name in (model_id(v.version), v.name)]
    if not numbers:
        raise Refusal(404, "api.unknown_model", field="model", name=name)
    return numbers[-1]


def model_id(version: int) -> str:
    return f"v{version}" if version else BASE


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


# ---------------------------------------------------------------------- of the app that runs


def version_of(registry: VersionRegistry, name: str) -> int | None:
    """`number_of` for the model in memory."""
    return number_of(registry.store, registry.adapter_store, registry.model.base_hash, name)


def _usable(registry: VersionRegistry) -> list[AdapterVersion]:
    return usable(registry.store, registry.adapter_store, registry.model.base_hash)


def described(registry: VersionRegistry) -> list[dict[str, Any]]:
    """Every version with what is known of it, the base first."""
    live = registry.model.live.version
    return [as_json(version, live) for version in _usable(registry)]


def models(registry: VersionRegistry) -> list[dict[str, Any]]:
    """Every model of the API, the live one first."""
    common = {"object": "model", "owned_by": "rlhf-chat", "created": 0}
    live = registry.model.live.version
    return [
        {"id": LIVE, **common, "version": live, "name": ""},
        *(
            {"id": model_id(v.version), **common, "version": v.version, "name": v.name}
            for v in _usable(registry)
        ),
    ]
