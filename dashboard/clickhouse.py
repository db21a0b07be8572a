"""ClickHouse as the dashboard reads it, and the one place where its driver's exceptions become ours.

In: LECTR_CLICKHOUSE_URL, and questions that are bounded in what they give. Out: rows, or a ClickHouseFault within
seconds: a person waits. Never writes, and is not allowed to.
"""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final

from shared.clickhouse_url import ClickHouseAddress, clickhouse_address
from shared.environment import SecretUrl

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_CONNECT_TIMEOUT_S: Final = 3
_ANSWER_TIMEOUT_S: Final = 10
_SETTINGS: Final = {"readonly": "1", "max_execution_time": str(_ANSWER_TIMEOUT_S)}
_NO_TABLE: Final = 60
_NO_DATABASE: Final = 81
"""Either is made by a migration."""
_ACCOUNT_CODES: Final = frozenset({192, 193, 194, 497, 516})
"""A user or a password that is refused, or lacks the right to read."""
_LONGEST_FAULT: Final = 300
"""The server explains at length what it would have understood."""


class ClickHouseFault(Exception):
    """There is no answer; the text names the setting and the fix. `label` is its name in counters and logs."""

    label: ClassVar[str] = "clickhouse"


class ClickHouseUnavailable(ClickHouseFault):
    """It does not answer, or not in time."""

    label = "unavailable"


class ClickHouseRefused(ClickHouseFault):
    """It answers with a refusal; `code` is its number for it, None where it gives none."""

    label = "refused"

    def __init__(self, detail: str, code: int | None) -> None:
        super().__init__(detail)
        self.code = code


class NotMigrated(ClickHouseRefused):
    """The table is not there: nothing was stored yet."""

    label = "not_migrated"


class ClickHouse:
    """One database. Connects when it is asked first; several threads may ask at once."""

    def __init__(self, address: ClickHouseAddress) -> None:
        self._address = address
        self._client: Client | None = None
        self._connecting = threading.Lock()

    @classmethod
    def of(cls, url: SecretUrl | None) -> "ClickHouse | None":
        """That of LECTR_CLICKHOUSE_URL; None where it is not set. Raises SettingsFault."""
        return None if url is None else cls(clickhouse_address(url))

    def query(self, sql: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Rows of a question, `parameters` bound by the server. Raises ClickHouseFault."""
        with self._translated():
            return [tuple(row) for row in self._connected().query(sql, parameters=dict(parameters)).result_rows]

    def close(self) -> None:
        """Give the connections back."""
        if self._client is not None:
            self._client.close()

    def _connected(self) -> "Client":
        with self._connecting:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> "Client":
        # Takes longer to import than most commands take to run.
        from clickhouse_connect.driver import create_client

        # What it logs stands in the fault as well, and whoever runs a command is told once.
        logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())
        client = create_client(
            interface=self._address.interface,
            host=self._address.host,
            port=self._address.port,
            username=self._address.user,
            password=self._address.password.reveal(),
            database=self._address.database,
            compress=False,
            connect_timeout=_CONNECT_TIMEOUT_S,
            send_receive_timeout=_ANSWER_TIMEOUT_S,
            autogenerate_session_id=False,
            query_retries=0,
            client_name="lectr-dashboard",
        )
        for name, value in _SETTINGS.items():
            # An account that may only read may not set these either, and needs not.
            known = client.server_settings.get(name)
            if known is None or not known.readonly:
                client.set_client_setting(name, value)
        return client

    @contextmanager
    def _translated(self) -> Iterator[None]:
        from clickhouse_connect.driver.exceptions import ClickHouseError

        try:
            yield
        except (ClickHouseError, OSError) as error:
            raise self._fault(error) from None

    def _fault(self, error: Exception) -> ClickHouseFault:
        code: int | None = getattr(error, "code", None)
        setting = f"LECTR_CLICKHOUSE_URL={self._address.shown}"
        detail = " ".join(str(error).split())[:_LONGEST_FAULT]
        if code == _NO_DATABASE:
            return ClickHouseRefused(
                f"{setting}: {detail}; run: python -m ingestor migrate, or correct the database's name", code
            )
        if code == _NO_TABLE:
            return NotMigrated(f"{setting}: {detail}; run: python -m ingestor migrate", code)
        if code in _ACCOUNT_CODES:
            return ClickHouseRefused(f"{setting}: {detail}; correct user and password, or grant SELECT", code)
        if code is not None:
            return ClickHouseRefused(f"{setting}: {detail}", code)
        if error.__cause__ is not None:
            # The driver's text holds a page of addresses and numbers around this name.
            detail = type(getattr(error.__cause__, "reason", error.__cause__)).__name__
        return ClickHouseUnavailable(
            f"{setting} does not answer as ClickHouse does ({detail}); start it there, or correct the address"
        )
