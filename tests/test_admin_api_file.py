"""The admin API where a file declares the registry: it keeps it so, says how that goes, and changes nothing itself."""

import json
from pathlib import Path

from shared.registry import hash_key, new_key
from tests.admin_api import AdminApi, admin_apis
from tests.parts import fetch, wait_until


def state(api: AdminApi) -> tuple[int, str]:
    """Status of the readiness probe, and what it says of the file."""
    status, body = fetch(f"{api.url}/readyz")
    return status, json.loads(body).get("registry_file", "")


def test_the_file_is_kept(tmp_path: Path) -> None:
    """Not ready before the file was applied; then what it declares is there, also after it changed or became faulty."""
    file = tmp_path / "orgs.yaml"
    with admin_apis(tmp_path, LECTR_REGISTRY_FILE=str(file)) as api:
        wait_until(lambda: state(api) == (503, ""))
        key = {"name": "app", "sha256": hash_key(new_key())}
        file.write_text(json.dumps({"orgs": {"acme": {"keys": [key]}}}))
        wait_until(lambda: state(api) == (200, "kept"))
        assert [one["name"] for one in api.ok("GET", "/orgs/acme/keys")["keys"]] == ["app"]
        assert api.refused("POST", "/orgs", {"org": "beta"}) == (403, "registry_read_only", None)
        file.write_text("orgs: {acme: {enabled: nonsense}}")
        wait_until(lambda: state(api) == (200, "faulty"))
        file.write_text("orgs: {beta: {}}")
        wait_until(lambda: [org["enabled"] for org in api.ok("GET", "/orgs")["orgs"]] == [False, True])
        assert state(api) == (200, "kept")
