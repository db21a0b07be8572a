"""An operator in a test: the edits that both doors make, on a Redis of the test's own."""

from redis import Redis

from dashboard import edits
from dashboard.registry import Registry
from shared.clock import unix_ms
from shared.environment import SecretUrl
from shared.organisation import Org
from shared.registry import COMPLETE_KEY, DEFAULT_KEY, new_key


def mark_whole(redis_url: str) -> None:
    """As an ingestor marks it that looked for what was lost, and found nothing."""
    with Redis.from_url(redis_url) as client:
        client.set(COMPLETE_KEY, "marked")


def empty(redis_url: str) -> None:
    """A new registry, and marked."""
    with Redis.from_url(redis_url) as client:
        client.flushall()
    mark_whole(redis_url)


class Operator(Registry):
    """Changes as the command line makes them."""

    def __init__(self, redis_url: str) -> None:
        super().__init__(SecretUrl(redis_url), actor="test")

    def _check_nothing_lost(self, name: str = "") -> None:
        """The test's own Redis never had anything before, and has no ingestor that would mark it."""

    def create_org(self, name: str) -> tuple[Org, str]:
        """The organisation and its key."""
        key = new_key()
        return self.create(edits.new_org(name, key, unix_ms()), "create org"), key

    def rotate_key(self, name: str, key_name: str = DEFAULT_KEY) -> tuple[Org, str]:
        key = new_key()
        edit = edits.rotate_key(edits.new_key_record(key_name, key, unix_ms()))
        return self.edit(name, edit, "rotate key"), key

    def set_enabled(self, name: str, *, enabled: bool) -> Org:
        return self.edit(name, edits.switch(enabled=enabled), "switch")

    def set_on_disconnect(self, name: str, feature: str, *, drain: bool) -> Org:
        return self.edit(name, edits.set_drain(feature, drain=drain), "drain")

    def set_azure(self, name: str, endpoint: str, api_version: str) -> Org:
        return self.edit(name, edits.set_azure(endpoint, api_version, "default", {}), "azure")
