"""`python -m ingestor gateways` and `give-up`: a gateway whose host is lost holds up the freshness until then."""

from shared.clock import unix_ms
from shared.event import Event
from tests.ingestor_process import Stores, event, serving
from tests.parts import run_command, wait_until

LOST, LIVING = 7, 8
HOUR_MS = 3_600_000


def order(own: Stores, *arguments: str) -> tuple[int, str]:
    """A command of the ingestor's: exit code, and what it printed."""
    done = run_command("ingestor", *arguments, LECTR_REDIS_URL=own.redis_url)
    return done.returncode, done.stdout + done.stderr


def requests(count: int) -> list[Event]:
    return [event(seq, ts_ms=unix_ms() - HOUR_MS) for seq in range(count)]


def see(own: Stores, source: int, at_ms: int, next_seq: int) -> None:
    """What a gateway says of itself each second."""
    own.pusher.client.hset(own.pusher.partition.seen, str(source), f"{at_ms}:{next_seq}:{at_ms}")


def complete_s_ago(own: Stores) -> float:
    """How old what is complete is."""
    rows = own.select("SELECT dateDiff('second', complete_up_to, now64(3)) AS s FROM lectr.data_freshness")
    return float(rows[0]["s"]) if rows and rows[0]["s"] is not None else HOUR_MS


def test_a_lost_gateway_is_given_up(own: Stores) -> None:
    """It is listed, and given up only when it was silent for a minute; then what is complete moves on."""
    with serving(own.eager()):
        own.pusher.push(LOST, requests(50))
        own.wait_drained()
        see(own, LOST, unix_ms() - HOUR_MS, 60)
        see(own, LIVING, unix_ms(), 0)
        reports = "SELECT count() AS n FROM lectr.ingestion_progress FINAL WHERE NOT retired"
        wait_until(lambda: own.select(reports)[0]["n"], deadline_s=60)
        code, listed = order(own, "gateways")
        assert code == 0
        lines = listed.splitlines()
        assert [line.split()[0] for line in lines] == [f"gateway_boot={LOST}", f"gateway_boot={LIVING}"]
        assert "accepted=50  stored=50" in lines[0]
        wait_until(lambda: complete_s_ago(own) > HOUR_MS / 2_000)
        assert order(own, "give-up", str(LOST)) == (0, f"given up: {LOST}\n")
        wait_until(lambda: complete_s_ago(own) < HOUR_MS / 2_000, deadline_s=30)
        see(own, LIVING, unix_ms(), 0)
        code, said = order(own, "give-up", str(LIVING))
        assert code == 2
        assert "less than a minute ago" in said
        code, said = order(own, "give-up", str(LOST))
        assert code == 2
        assert "python -m ingestor gateways" in said
        # Should its journal be found, what it sends is told from what is stored.
        own.pusher.push(LOST, requests(60))
        own.wait_drained()
        wait_until(lambda: own.figures() == (60, 60))
