"""The HTTP interface of the ClickHouse door, spoken raw."""

import gzip
import http.client
import json
import sys
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import brotli  # type: ignore[import-untyped] # ships no type information
import lz4.frame  # type: ignore[import-untyped] # ships no type information
import pytest

from tests.door_process import DoorProcess
from tests.parts import running, wait_until

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACK = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
    "lz4": lz4.frame.compress,
}
UNPACK = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "br": brotli.decompress,
    "zstd": zstd.decompress,
    "lz4": lz4.frame.decompress,
}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DoorProcess]:
    started = DoorProcess(tmp_path_factory.mktemp("door"))
    with running(started.part):
        started.do("CREATE TABLE plain (a Int64, s String) ENGINE = MergeTree ORDER BY a")
        yield started


def test_ping(door: DoorProcess) -> None:
    """Health checks get Ok, with and without a path of their own."""
    for path in ("/ping", "/", "/replicas_status"):
        reply = door.ask(method="GET", path=path)
        assert (reply.status, reply.text) == (200, "Ok.\n")
    assert door.ask(method="GET", path="/play").status == 404


def test_query_places(door: DoorProcess) -> None:
    """A query may stand in the URL, in the body, or begin in one and end in the other."""
    assert door.ask(method="GET", query="SELECT 1").text == "1\n"
    assert door.ask("SELECT 2").text == "2\n"
    assert door.ask("3, 4", query="SELECT").text == "3\t4\n"
    assert door.ask("").code == 62


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("INSERT INTO plain FORMAT CSV", "1,a\n2,b\n"),
        ("INSERT INTO plain", "FORMAT CSV\n1,a\n2,b\n"),
        ("", "INSERT INTO plain (a, s) FORMAT CSV\r\n1,a\n2,b\n"),
        ("", "INSERT INTO plain SETTINGS max_threads = 1 FORMAT TSV\n1\ta\n2\tb\n"),
        ("INSERT INTO plain FORMAT CSV\n1,a", "2,b\n"),
        ("INSERT INTO plain VALUES", "(1, 'a'), (1 + 1, 'b')"),
        ("INSERT INTO plain SELECT number + 1, char(97 + number) FROM numbers(2)", ""),
        ("/* FORMAT x */ INSERT INTO plain -- VALUES\n FORMAT JSONEachRow", '{"a":1,"s":"a"}{"a":2,"s":"b"}'),
        ("WITH 1 AS x INSERT INTO plain FORMAT CSV", "1,a\n2,b\n"),
    ],
)
def test_insert_places(door: DoorProcess, query: str, body: str) -> None:
    """INSERT and its rows arrive in every arrangement clients use, and the answer counts them."""
    door.do("TRUNCATE TABLE plain")
    parameters = {"query": query} if query else {}
    reply = door.ask(body, parameters)
    assert (reply.status, reply.written_rows) == (200, 2), reply.text
    assert door.select("SELECT * FROM plain ORDER BY a") == "1\ta\n2\tb"


def test_get_cannot_write(door: DoorProcess) -> None:
    """GET is read-only, in a session too, and cannot switch that off."""
    insert = "INSERT INTO plain VALUES (1, 'x')"
    for more in ({}, {"readonly": "0"}, {"session_id": "get"}):
        assert door.ask(None, more, method="GET", query=insert).code == 164
    assert door.ask(method="GET", query="DROP TABLE plain").code == 164
    assert door.ask(method="GET", query="SELECT getSetting('max_threads')", max_threads="1").text == "1\n"


def test_readonly_setting(door: DoorProcess) -> None:
    """readonly=1 forbids writes and settings, readonly=2 only writes, as a parameter of POST."""
    for level in ("1", "2"):
        assert door.ask("INSERT INTO plain VALUES (1, 'x')", readonly=level).code == 164
        assert door.ask("INSERT INTO plain FORMAT CSV\n1,x", readonly=level).code == 164
    assert door.ask("SELECT 1 SETTINGS max_threads = 1", readonly="1").code == 164
    assert door.select("SELECT getSetting('max_threads') SETTINGS max_threads = 1", readonly="2") == "1"


@pytest.mark.parametrize("value", ["a&b=c", "it's", "back\\slash", "'; DROP TABLE plain; --", "ü\n\t x", "%00"])
def test_hostile_values(door: DoorProcess, value: str) -> None:
    """Setting values and bound parameters arrive as they were sent, whatever they hold."""
    assert json.loads(door.select("SELECT getSetting('log_comment') AS v FORMAT JSONEachRow", log_comment=value)) == {
        "v": value
    }
    bound = value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
    reply = door.select("SELECT {v:String} AS v FORMAT JSONEachRow", param_v=bound)
    assert json.loads(reply) == {"v": value}


def test_typed_parameters(door: DoorProcess) -> None:
    """Server-side binds have ClickHouse's types, and a missing or wrong one is an error."""
    binds = {"param_n": "5", "param_l": "['a','b']", "param_z": "\\N"}
    assert door.select("SELECT {n:UInt8} + 1, {l:Array(String)}[2], {z:Nullable(Int8)}", **binds) == "6\tb\t\\N"
    assert door.ask("SELECT {n:UInt8}").code == 456
    assert door.ask("SELECT {n:UInt8}", param_n="x").code == 457


def test_settings_and_errors(door: DoorProcess) -> None:
    """Errors carry the engine's code, name and the real server's status."""
    cases = [
        ("SELECT 1", {"no_such_setting": "1"}, 115, 404, "UNKNOWN_SETTING"),
        ("SELECT 1", {"bad name": "1"}, 115, 404, "UNKNOWN_SETTING"),
        ("SELECT 1", {"database": "nope"}, 81, 404, "UNKNOWN_DATABASE"),
        ("SELECT 1", {"role": "x"}, 511, 404, "UNKNOWN_ROLE"),
        ("SELECT 1", {"compress": "1"}, 48, 501, "NOT_IMPLEMENTED"),
        ("SELECT 1", {"session_timeout": "99999"}, 374, 500, "INVALID_SESSION_TIMEOUT"),
        ("SELECT * FROM nope", {}, 60, 404, "UNKNOWN_TABLE"),
        ("SELECT nope", {}, 47, 404, "UNKNOWN_IDENTIFIER"),
        ("SELECT nope(1)", {}, 46, 404, "UNKNOWN_FUNCTION"),
        ("SELEC 1", {}, 62, 400, "SYNTAX_ERROR"),
        ("SELECT 1; SELECT 2", {}, 62, 400, "SYNTAX_ERROR"),
        ("SELECT throwIf(1)", {}, 395, 500, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
        ("SELECT 1 FORMAT Nope", {}, 73, 404, "UNKNOWN_FORMAT"),
        ("INSERT INTO plain FORMAT CSV\nx,y", {}, 27, 400, "CANNOT_PARSE_INPUT_ASSERTION_FAILED"),
        ("INSERT INTO plain FORMAT CSV;\n1,y", {}, 62, 400, "SYNTAX_ERROR"),
        ("INSERT INTO nope FORMAT CSV\n1,y", {}, 60, 404, "UNKNOWN_TABLE"),
    ]
    for query, parameters, code, status, name in cases:
        reply = door.ask(query, parameters)
        assert (reply.code, reply.status) == (code, status), (query, reply.text)
        assert reply.text.startswith(f"Code: {code}. DB::Exception: ")
        assert f" ({name}) (version " in reply.text
        assert "door:" not in reply.text
        assert "/proc/" not in reply.text


def test_formats_and_headers(door: DoorProcess) -> None:
    """The result's format comes from the query, a parameter or a header, and the answer's headers say which."""
    named = door.ask("SELECT 1 AS x FORMAT JSON", default_format="CSV", query_id="my-id")
    assert json.loads(named.body)["data"] == [{"x": 1}]
    assert named.headers["Content-Type"] == "application/json; charset=UTF-8"
    assert named.headers["X-ClickHouse-Format"] == "JSON"
    assert named.headers["X-ClickHouse-Query-Id"] == "my-id"
    assert named.headers["X-ClickHouse-Timezone"]
    assert named.headers["X-ClickHouse-Server-Display-Name"]
    by_parameter = door.ask("SELECT 1 AS x", default_format="CSVWithNames")
    assert by_parameter.text == '"x"\n1\n'
    by_header = door.ask("SELECT 1 AS x", headers={"X-ClickHouse-Format": "Native"})
    assert by_header.headers["Content-Type"] == "application/octet-stream"
    assert door.ask("SELECT 1").headers["Content-Type"] == "text/tab-separated-values; charset=UTF-8"
    assert door.select("SELECT count() FROM numbers(3) WITH TOTALS") == "3\n\n3"
    assert door.ask("SELECT 1", query_id="a\r\nX-Evil: 1").headers.get("X-Evil") is None


@pytest.mark.parametrize("coding", list(PACK))
def test_compression(door: DoorProcess, coding: str) -> None:
    """Bodies are unpacked and answers packed in every coding; a broken or unknown one is an error."""
    door.do("TRUNCATE TABLE plain")
    rows = b"".join(b"%d,row\n" % number for number in range(50_000))
    headers = {"Content-Encoding": coding}
    reply = door.ask(PACK[coding](rows), query="INSERT INTO plain FORMAT CSV", headers=headers)
    assert (reply.status, reply.written_rows) == (200, 50_000), reply.text
    assert door.ask(PACK[coding](b"SELECT 7"), headers=headers).text == "7\n"
    packed = door.ask(
        "SELECT a FROM plain ORDER BY a", enable_http_compression="1", headers={"Accept-Encoding": f"{coding}, x;q=1"}
    )
    assert packed.headers["Content-Encoding"] == coding
    assert UNPACK[coding](packed.body) == b"".join(b"%d\n" % number for number in range(50_000))
    cut = door.ask(PACK[coding](rows)[:-20], query="INSERT INTO plain FORMAT CSV", headers=headers)
    assert cut.code == 271
    assert "Content-Encoding" not in door.ask("SELECT 1", headers={"Accept-Encoding": coding}).headers


def test_unknown_coding(door: DoorProcess) -> None:
    """A coding nobody knows is refused, not stored as rows."""
    assert door.ask("SELECT 1", headers={"Content-Encoding": "rot13"}).code == 89


def test_sessions(door: DoorProcess) -> None:
    """A session keeps temporary tables and SET values; a request's own settings end with it; others see nothing."""
    door.select("CREATE TEMPORARY TABLE mine (a Int8)", session_id="s1")
    assert door.ask("INSERT INTO mine FORMAT CSV\n5", session_id="s1").status == 200
    door.select("SET max_threads = 3", session_id="s1")
    assert door.select("SELECT getSetting('max_threads')", session_id="s1", max_threads="1") == "1"
    assert door.select("SELECT a, getSetting('max_threads') FROM mine", session_id="s1") == "5\t3"
    door.select("CREATE DATABASE IF NOT EXISTS other")
    assert door.select("SELECT currentDatabase()", session_id="s1", database="other") == "other"
    assert door.select("SELECT currentDatabase()", session_id="s1") == "default"
    assert door.ask("SELECT * FROM mine").code == 60
    assert door.ask("SELECT 1", session_id="s2", session_check="1").code == 372
    door.select("SELECT 1", session_id="s1", close_session="1")
    assert door.ask("SELECT * FROM mine", session_id="s1").code == 60


def test_session_times_out(door: DoorProcess) -> None:
    """A session is forgotten when its time is over."""
    door.select("SELECT 1", session_id="short", session_timeout="0")
    again = {"session_id": "short", "session_timeout": "0", "session_check": "1"}
    wait_until(lambda: door.ask("SELECT 1", again).code == 372)


def test_session_is_locked(door: DoorProcess) -> None:
    """A second request in a busy session gets SESSION_IS_LOCKED, and the first one is not harmed."""
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(door.select, "SELECT sleep(3)", session_id="busy")
        wait_until(lambda: door.select("SELECT count() FROM system.processes WHERE query LIKE '%sleep(3%'") == "2")
        assert door.ask("SELECT 1", session_id="busy").code == 373
        assert slow.result() == "0"


def test_local_files_are_out_of_reach(door: DoorProcess, tmp_path: Path) -> None:
    """No statement of a client reads or writes the machine's files, starts programs or opens connections."""
    secret = tmp_path / "secret.csv"
    secret.write_text("top-secret\n")
    target = tmp_path / "written"
    statements = [
        f"INSERT INTO plain (s) FROM INFILE '{secret}' FORMAT CSV",
        f"INSERT INTO plain (s) FROM/**/infile '{secret}' FORMAT CSV\nx",
        f"SELECT 1 INTO OUTFILE '{target}'",
        f"SELECT 1 INTO /* ' */ OUTFILE '{target}' -- '",
        f"SELECT file('{secret}')",
        f"SELECT `file`('{secret}')",
        f"SELECT \"\\x66ile\"('{secret}')",
        f"SELECT “file”('{secret}')",
        f"SELECT * APPLY file FROM (SELECT '{secret}')",
        f"SELECT arrayMap(file, ['{secret}'])",
        f"SELECT /* /* */ ' */ file('{secret}') -- '",
        f"SELECT $x$ ' $x$, file('{secret}') -- '",
        f"SELECT 1 // '\n, file('{secret}')",
        f"INSERT INTO plain VALUES (1, file('{secret}'))",
        f"INSERT INTO plain FORMAT Values (1, file('{secret}'))",
        f"SELECT * FROM file('{secret}', 'LineAsString')",
        f"SELECT * FROM `{secret}`",
        f"SELECT * FROM '{secret}'",
        f"CREATE TABLE thief (s String) ENGINE = File(CSV, '{secret}')",
        f"INSERT INTO FUNCTION file('{target}') SELECT 1",
        f"SELECT 1 FORMAT Template SETTINGS format_template_row = '{secret}'",
        (
            f"CREATE DICTIONARY d (s String) PRIMARY KEY s SOURCE(EXECUTABLE(COMMAND 'cat {secret}' FORMAT 'TSV')) "
            "LAYOUT(COMPLEX_KEY_DIRECT())"
        ),
        f"BACKUP TABLE plain TO File('{target}')",
        "SELECT * FROM eval('SELECT 1') SETTINGS allow_experimental_eval_table_function = 1",
        f"SELECT * FROM url('{door.url}/ping', 'LineAsString')",
        "SELECT * FROM remote('127.0.0.1:1', system.one)",
        "SELECT * FROM executable('ls', 'TSV', 'a String')",
        "CREATE USER other",
        "SYSTEM SHUTDOWN",
    ]
    for statement in statements:
        reply = door.ask(statement)
        assert reply.code in {1, 60, 62, 452, 497}, (statement, reply.code, reply.text)
        assert "top-secret" not in reply.text
    assert not target.exists()
    assert door.select("SELECT count() FROM plain WHERE s LIKE '%top-secret%'") == "0"
    assert door.select("SELECT 'a file(1)' -- file(1)") == "a file(1)"


def test_big_result_streams(door: DoorProcess) -> None:
    """A result far above the pieces' size arrives whole, and the first bytes come before the last are made."""
    with closing(http.client.HTTPConnection(door.host, int(door.port), timeout=60)) as connection:
        connection.request("POST", "/", b"SELECT number FROM numbers(20000000) FORMAT RowBinary")
        response = connection.getresponse()
        assert response.headers["Transfer-Encoding"] == "chunked"
        last, length = b"", 0
        while piece := response.read(1 << 20):
            last, length = piece, length + len(piece)
    assert length == 160_000_000
    assert int.from_bytes(last[-8:], "little") == 19_999_999


def test_error_in_the_middle_breaks_the_connection(door: DoorProcess) -> None:
    """A stream that fails after its start never looks complete."""
    query = "SELECT number, throwIf(number = 5000000) FROM numbers(10000000)"
    for parameters in ({}, {"enable_http_compression": "1"}):
        with pytest.raises(http.client.IncompleteRead):
            door.ask(query, headers={"Accept-Encoding": "gzip"}, given=parameters)


def test_client_that_leaves_cancels_its_query(door: DoorProcess) -> None:
    """A SELECT does not go on for a client that is gone."""
    running_now = "SELECT count() FROM system.processes WHERE query LIKE '%numbers(9000000000%'"
    with closing(http.client.HTTPConnection(door.host, int(door.port))) as connection:
        connection.request("POST", "/", b"SELECT sum(sipHash64(number)) FROM numbers(9000000000)")
        wait_until(lambda: door.select(f"{running_now} AND query NOT LIKE '%processes%'") == "1")
    wait_until(lambda: door.select(f"{running_now} AND query NOT LIKE '%processes%'") == "0")


def test_uploads_and_queries_do_not_wait_for_each_other(door: DoorProcess) -> None:
    """A long query and a large upload leave the door answering pings."""
    door.do("TRUNCATE TABLE plain")
    rows = b"".join(b"%d,some words in a row\n" % number for number in range(1_000_000))
    slowest = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        query = pool.submit(door.ask, "SELECT sleep(2)")
        insert = pool.submit(door.ask, gzip.compress(rows, 1), query="INSERT INTO plain FORMAT CSV",
                             headers={"Content-Encoding": "gzip"})  # fmt: skip
        insert.add_done_callback(lambda _: slowest.set())
        pings = 0
        while not slowest.is_set():
            assert door.ask(method="GET", path="/ping").status == 200
            pings += 1
        assert (query.result().status, insert.result().written_rows) == (200, 1_000_000)
    assert pings > 5


def test_grafana_shape(door: DoorProcess) -> None:
    """What Grafana's HTTP mode sends: POST with settings in the URL, Native asked for, compression, basic auth."""
    headers = {"Authorization": "Basic ZGVmYXVsdDo=", "Accept-Encoding": "gzip", "Content-Type": "text/plain"}
    reply = door.ask(
        "SELECT toStartOfHour(toDateTime(number)) AS time, count() AS n FROM numbers(7200) GROUP BY time ORDER BY time",
        headers=headers,
        database="default",
        default_format="JSONCompact",
        enable_http_compression="1",
        client_protocol_version="54468",
        max_execution_time="60",
        wait_end_of_query="1",
        send_progress_in_http_headers="1",
    )
    assert [int(row[1]) for row in json.loads(gzip.decompress(reply.body))["data"]] == [3600, 3600]


def test_form_fields_are_parameters(door: DoorProcess) -> None:
    """Long parameters may come as plain fields of a multipart body; files in it are refused."""
    head = '--B\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    form = head.format("query", "SELECT {x:String}") + head.format("param_x", "long") + "--B--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    assert door.ask(form, headers=headers).text == "long\n"
    table = form.replace('name="param_x"', 'name="t"; filename="t"')
    assert door.ask(table, headers=headers).code == 48


def test_other_sites_are_refused(door: DoorProcess) -> None:
    """Without a password a web page cannot use the door through its visitor's browser."""
    assert door.ask("SELECT 1", headers={"Origin": "https://evil.example"}).code == 497
    assert door.ask("SELECT 1", headers={"Host": "rebound.example:80"}).code == 497
    assert door.ask("SELECT 1", headers={"Origin": "http://localhost:3000"}).status == 200
