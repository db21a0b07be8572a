"""Limits of a key: exactly as many requests and streams as defined, whatever the order, the rate and the clock."""

import asyncio
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.faults import ConcurrentStreamsExceeded, RateLimitExceeded
from gateway.limits import NO_LIMITS, Allowances, OpenStream, burst_of, effective
from shared.organisation import Limits

SECOND = 10**9
EXPECTED_BURSTS = [(0.1, 1), (1, 1), (2.5, 3), (7, 7), (1e6, 10**6), (5e-324, 1)]
rates = st.one_of(
    st.sampled_from([0.1, 0.3, 1, 2.5, 1 / 3, 1000, 1e6, 5e-324, 1e-7]),
    st.floats(min_value=0, max_value=1e6, exclude_min=True),
)
bursts = st.none() | st.integers(1, 20)
gaps_ns = st.one_of(st.integers(0, 3 * SECOND), st.sampled_from([0, 0, 1, SECOND // 10, SECOND // 3 + 1, 10 * SECOND]))


def passes(allowances: Allowances, limits: Limits, now_ns: int, key: str = "main") -> bool:
    try:
        allowances.take_request("acme", key, limits, now_ns)
    except RateLimitExceeded:
        return False
    return True


def exact(rate: float) -> Fraction:
    """Requests per nanosecond."""
    return Fraction(repr(rate)) / SECOND


def by_definition(limits: Limits, times_ns: list[int]) -> list[bool]:
    """Which requests pass, by looking at every window that ends with a request and begins with an earlier one."""
    assert limits.requests_per_s is not None
    passed: list[int] = []
    answers = []
    for now_ns in times_ns:
        allowed = all(
            len(passed) - index + 1 <= burst_of(limits) + exact(limits.requests_per_s) * (now_ns - since_ns)
            for index, since_ns in enumerate(passed)
        )
        answers.append(allowed)
        if allowed:
            passed.append(now_ns)
    return answers


@given(rates, bursts, st.lists(gaps_ns, max_size=60))
@example(1 / 3, 1, [0, 3 * SECOND, 1])  # the second one comes a nanosecond early
def test_the_bucket_is_its_definition(rate: float, burst: int | None, steps_ns: list[int]) -> None:
    """Over any arrivals, exactly those requests pass that the definition lets pass: none more, none fewer."""
    limits = Limits(requests_per_s=rate, burst_requests=burst)
    times_ns = [sum(steps_ns[: index + 1]) for index in range(len(steps_ns))]
    allowances = Allowances()
    assert [passes(allowances, limits, now_ns) for now_ns in times_ns] == by_definition(limits, times_ns)


@pytest.mark.parametrize("rate", [0.1, 0.3, 1 / 3, 7.7])
def test_nothing_drifts(rate: float) -> None:
    """After 20,000 asks at odd moments as many have passed as one multiplication says."""
    limits = Limits(requests_per_s=rate, burst_requests=3)
    allowances, now_ns, step_ns = Allowances(), 0, 33_333_333
    passed = int(passes(allowances, limits, now_ns))
    for _ in range(20_000):
        now_ns += step_ns
        passed += passes(allowances, limits, now_ns)
    assert passed == 3 + (now_ns * exact(rate)).__floor__()


@pytest.mark.parametrize(("rate", "expected"), EXPECTED_BURSTS)
def test_the_burst_of_a_rate(rate: float, expected: int) -> None:
    """Where no burst is set it is a second's requests, rounded up, and never less than one."""
    assert burst_of(Limits(requests_per_s=rate)) == expected
    assert burst_of(Limits(requests_per_s=rate, burst_requests=4)) == 4


@given(rates, bursts, st.integers(0, 10**12))
@example(0.9999999999, 1, 0)
def test_a_refusal_says_when_the_next_one_passes(rate: float, burst: int | None, start_ns: int) -> None:
    """After as long as Retry-After says, and never less than a second, a request passes; a second before, none does."""
    limits = Limits(requests_per_s=rate, burst_requests=burst or 1)
    allowances = Allowances()
    while passes(allowances, limits, start_ns):
        pass
    with pytest.raises(RateLimitExceeded) as caught:
        allowances.take_request("acme", "main", limits, start_ns)
    wait_s = caught.value.retry_after_s
    assert wait_s is not None
    assert wait_s >= 1
    if wait_s < 2**31:  # else the true time is longer than the header can say
        assert wait_s == 1 or not passes(allowances, limits, start_ns + (wait_s - 1) * SECOND)
        assert passes(allowances, limits, start_ns + wait_s * SECOND)


def test_a_refusal_names_the_limit_its_value_and_the_fix() -> None:
    """Who reads the error knows whose limit it is, how high, and what to do; without exponents."""
    allowances = Allowances()
    limits = Limits(requests_per_s=1e-7, burst_requests=1, concurrent_streams=1)
    assert passes(allowances, limits, 0)
    with pytest.raises(
        RateLimitExceeded, match=r"'main' of acme may send 0\.0000001 requests per second, 1 at once"
    ) as rate:
        allowances.take_request("acme", "main", limits, 0)
    assert "have its limit requests_per_s raised" in rate.value.message
    assert rate.value.retry_after_s == 10**7
    allowances.take_stream("acme", "main", limits, 0)
    with pytest.raises(ConcurrentStreamsExceeded, match="'main' of acme may have 1 streams open at once") as streams:
        allowances.take_stream("acme", "main", limits, 0)
    assert "have its limit concurrent_streams raised" in streams.value.message
    assert streams.value.retry_after_s == 1


@pytest.mark.parametrize(
    ("times_s", "expected"),
    [
        ([5, 5, 5, 5], [True, True, False, False]),
        ([5, 5, 4, 4, 5, 5], [True, True, False, False, True, False]),
        ([5, 5, -1000, -999, -999], [True, True, False, True, False]),
        ([5, 5, 10**9, 10**9, 10**9, 6, 7], [True, True, True, True, False, False, True]),
    ],
    ids=["stands still", "a step back", "far back", "ahead and back"],
)
def test_odd_clocks(times_s: list[int], expected: list[bool]) -> None:
    """A clock that stands, is set back or jumps ahead gives no more than a burst, and locks nobody out."""
    allowances, limits = Allowances(), Limits(requests_per_s=1, burst_requests=2)
    assert [passes(allowances, limits, moment * SECOND) for moment in times_s] == expected


def test_keys_do_not_share() -> None:
    """Each key of each organisation has its own bucket and its own streams."""
    allowances, limits = Allowances(), Limits(requests_per_s=1, concurrent_streams=1)
    for org, key in (("acme", "a"), ("acme", "b"), ("other", "a")):
        allowances.take_request(org, key, limits, 0)
        allowances.take_stream(org, key, limits, 0)
    assert not passes(allowances, limits, 0, key="a")


@given(
    st.lists(
        st.tuples(gaps_ns, st.none() | st.sampled_from([0.1, 0.25, 1, 3.5, 1 / 3, 50]), bursts),
        max_size=60,
    )
)
def test_a_change_of_limits_forgets_nothing(steps: list[tuple[int, float | None, int | None]]) -> None:
    """The fill stays through any changes, exact and cut to the new burst; an idle bucket stays idle."""
    allowances, now_ns, was_ns = Allowances(), 0, 0
    fill: Fraction | None = None  # None: idle
    last: Limits = NO_LIMITS
    for step_ns, rate, burst in steps:
        now_ns += step_ns
        limits = Limits(requests_per_s=rate, burst_requests=burst)
        passed = passes(allowances, limits, now_ns)
        if rate is None:
            assert passed
            continue
        if fill is not None and last.requests_per_s is not None:
            fill += exact(last.requests_per_s) * (now_ns - was_ns)
            fill = None if fill >= burst_of(last) else min(fill, Fraction(burst_of(limits)))
        last, was_ns = limits, now_ns
        fill = Fraction(burst_of(limits)) if fill is None else fill
        assert passed == (fill >= 1)
        fill -= passed


def test_a_lower_limit_keeps_what_was_used() -> None:
    """A burst that was used up stays used up when the limits change, and a lower rate counts from the change on."""
    allowances = Allowances()
    fast, slow = Limits(requests_per_s=100, burst_requests=100), Limits(requests_per_s=1, burst_requests=5)
    assert sum(passes(allowances, fast, 0) for _ in range(98)) == 98
    assert sum(passes(allowances, slow, 0) for _ in range(10)) == 2
    assert sum(passes(allowances, slow, SECOND) for _ in range(10)) == 1
    assert sum(passes(allowances, fast, SECOND) for _ in range(10)) == 0


def test_streams_end_on_every_path() -> None:
    """A stream is given back once: after an end, an error, a cancellation, and however often it is released."""
    allowances, limits = Allowances(), Limits(concurrent_streams=2)

    def opened() -> OpenStream:
        return allowances.take_stream("acme", "main", limits, 0)

    first, second = opened(), opened()
    with pytest.raises(ConcurrentStreamsExceeded):
        opened()
    first.release()
    first.release()
    third = opened()
    with pytest.raises(ConcurrentStreamsExceeded):
        opened()
    second.release()
    third.release()
    for failure in (ValueError, asyncio.CancelledError, ConnectionResetError, GeneratorExit):
        with pytest.raises(failure), opened(), opened():
            raise failure
    with opened() as stream:
        stream.release()
    with opened(), opened(), pytest.raises(ConcurrentStreamsExceeded):
        opened()


@given(st.lists(st.tuples(st.sampled_from(["open", "release", "limit"]), st.integers(0, 9)), max_size=100))
def test_streams_are_counted_through_changes(steps: list[tuple[str, int]]) -> None:
    """Of any openings, releases (again too) and changes of the limit, what is open is what is counted."""
    allowances, most = Allowances(), 3
    streams: list[OpenStream] = []
    running: set[int] = set()
    for what, number in steps:
        if what == "limit":
            most = number + 1
        elif what == "release" and number < len(streams):
            streams[number].release()
            running.discard(number)
        elif what == "open":
            try:
                streams.append(allowances.take_stream("acme", "main", Limits(concurrent_streams=most), 0))
            except ConcurrentStreamsExceeded:
                assert len(running) >= most
            else:
                running.add(len(streams) - 1)
                assert len(running) <= most


def test_who_has_no_limits_is_not_counted() -> None:
    """An organisation without limits leaves nothing behind; a burst alone is no limit."""
    allowances = Allowances()
    for limits in (NO_LIMITS, Limits(burst_requests=1), Limits(body_bytes=1)):
        streams = [allowances.take_stream("acme", "main", limits, 0) for _ in range(100)]
        assert all(passes(allowances, limits, 0) for _ in range(100))
        for stream in streams:
            stream.release()
    assert len(allowances) == 0


def test_a_stream_that_has_begun_is_counted_in_any_case() -> None:
    """Beyond the limit too, so that others wait for its end; of a key without such a limit nothing is kept."""
    allowances, limits = Allowances(), Limits(concurrent_streams=1)
    with allowances.count_stream("acme", "main", limits, 0), allowances.count_stream("acme", "main", limits, 0) as two:
        two.release()
        with pytest.raises(ConcurrentStreamsExceeded):
            allowances.take_stream("acme", "main", limits, 0)
    allowances.take_stream("acme", "main", limits, 0).release()
    allowances.count_stream("acme", "free", NO_LIMITS, 0)
    assert len(allowances) == 1


@given(st.lists(st.tuples(st.integers(0, SECOND), st.integers(0, 8)), max_size=120))
def test_what_is_forgotten_is_not_missed(steps: list[tuple[int, int]]) -> None:
    """Every decision is that of a bucket that is never forgotten, in whatever order keys come and go."""
    shared, limits, now_ns = Allowances(), Limits(requests_per_s=3, burst_requests=2), 0
    alone = [Allowances() for _ in range(9)]
    for step_ns, key in steps:
        now_ns += step_ns
        assert passes(shared, limits, now_ns, key=str(key)) == passes(alone[key], limits, now_ns, key=str(key))


def test_keys_that_were_idle_are_forgotten() -> None:
    """A flood of keys, each used once, keeps no more than twice those whose bucket is not full again."""
    allowances, limits = Allowances(), Limits(requests_per_s=1)
    most = 0
    for number in range(50_000):
        # A key every ms: 1,000 of them are in use at any time.
        assert passes(allowances, limits, number * 10**6, key=f"key {number}")
        most = max(most, len(allowances))
    assert most <= 2_002


def test_keys_that_are_never_idle_are_bounded() -> None:
    """A flood of keys whose buckets take years to fill has a bound; open streams are never forgotten."""
    allowances = Allowances(most=100)
    limits = Limits(requests_per_s=1e-9, concurrent_streams=1)
    streams = [allowances.take_stream("acme", f"streaming {number}", limits, 0) for number in range(50)]
    for number in range(5_000):
        assert passes(allowances, limits, number, key=f"key {number}")
        assert len(allowances) <= 150
    for number in range(50):
        with pytest.raises(ConcurrentStreamsExceeded):
            allowances.take_stream("acme", f"streaming {number}", limits, 5_000)
    for stream in streams:
        stream.release()
    assert not passes(allowances, limits, 5_000, key="key 4999")
    more = [allowances.take_stream("acme", f"more {number}", limits, 5_000) for number in range(300)]
    assert len(allowances) <= 600
    assert len(more) == 300


@pytest.mark.parametrize(
    ("org", "key", "expected"),
    [
        (NO_LIMITS, NO_LIMITS, NO_LIMITS),
        (Limits(requests_per_s=1), NO_LIMITS, Limits(requests_per_s=1)),
        (NO_LIMITS, Limits(body_bytes=1), Limits(body_bytes=1)),
        (
            Limits(requests_per_s=1, burst_requests=9, body_bytes=5, file_body_bytes=6),
            Limits(requests_per_s=2, concurrent_streams=4, body_bytes=50),
            Limits(requests_per_s=2, burst_requests=9, concurrent_streams=4, body_bytes=50, file_body_bytes=6),
        ),
    ],
)
def test_effective_limits(org: Limits, key: Limits, expected: Limits) -> None:
    """A key's own limits count, higher or lower; field by field the organisation's stand in."""
    assert effective(org, key) == expected


async def test_64_tasks_at_once() -> None:
    """However 64 tasks take turns, as many requests are refused as the definition says, and every stream ends."""
    tasks, rounds, asks = 64, 20, 3
    limits = Limits(requests_per_s=7.5, burst_requests=100, concurrent_streams=32)
    allowances, now_ns = Allowances(), 0
    barrier = asyncio.Barrier(tasks + 1)
    refused = refused_streams = 0

    async def client() -> None:
        nonlocal refused, refused_streams
        for _ in range(rounds):
            await barrier.wait()
            for _ in range(asks):
                refused += not passes(allowances, limits, now_ns)
            try:
                with allowances.take_stream("acme", "main", limits, now_ns):
                    await barrier.wait()
            except ConcurrentStreamsExceeded:
                refused_streams += 1
                await barrier.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(client())
        for moment in range(rounds):
            now_ns = moment * SECOND
            await barrier.wait()
            await barrier.wait()
    passed = int(100 + 7.5 * (rounds - 1))
    assert refused == tasks * rounds * asks - passed
    assert refused_streams == rounds * 32
    with allowances.take_stream("acme", "main", Limits(concurrent_streams=1), now_ns):
        pass
