-- A row that is missing and one that is there twice must not make up for each other: distinct numbers count. A bitmap
-- of a run's numbers is exact, and small since they are dense.
CREATE OR REPLACE VIEW event_gaps
(
    gateway_boot UInt64 COMMENT 'Random id of one run of a gateway',
    gateway String COMMENT 'Gateway instance',
    first_seq UInt64 COMMENT 'First sequence number that is missing',
    end_seq UInt64 COMMENT 'The number behind the last one that is missing',
    events UInt64 COMMENT 'How many are missing: end_seq - first_seq',
    after DateTime64(3, 'UTC') COMMENT 'Start of the last request before the gap, of the first one behind it where there is none before'
)
AS
WITH
    incomplete AS
    (
        SELECT r.gateway_boot AS boot
        FROM requests AS r
        GROUP BY r.gateway_boot
        HAVING groupBitmap(r.gateway_seq) != max(r.gateway_seq) + 1
    ),
    stored AS
    (
        SELECT r.gateway_boot AS boot, any(r.gateway) AS gateway_name, r.gateway_seq AS seq, min(r.ts) AS at
        FROM requests AS r
        WHERE r.gateway_boot IN (SELECT boot FROM incomplete)
        GROUP BY r.gateway_boot, r.gateway_seq
    ),
    steps AS
    (
        SELECT
            boot,
            gateway_name,
            seq,
            at,
            toInt64(lagInFrame(toNullable(seq)) OVER w) AS before,
            lagInFrame(toNullable(at)) OVER w AS at_before
        FROM stored
        WINDOW w AS (PARTITION BY boot ORDER BY seq ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
    )
SELECT
    boot AS gateway_boot,
    gateway_name AS gateway,
    toUInt64(ifNull(before, -1) + 1) AS first_seq,
    seq AS end_seq,
    end_seq - first_seq AS events,
    ifNull(at_before, at) AS after
FROM steps
WHERE toInt64(seq) > ifNull(before, -1) + 1
UNION ALL
SELECT b.gateway_boot, b.gateway, s.following, b.used, b.used - s.following, if(s.following = 0, b.started_at, s.last_at)
FROM
(
    SELECT gateway_boot, any(gateway) AS gateway, any(started_at) AS started_at, argMax(events, ingested_at) AS used
    FROM gateway_boots
    GROUP BY gateway_boot
) AS b
LEFT JOIN
(
    SELECT gateway_boot AS boot, max(gateway_seq) + 1 AS following, max(ts) AS last_at
    FROM requests
    GROUP BY gateway_boot
) AS s ON s.boot = b.gateway_boot
WHERE b.used > s.following
COMMENT 'Events that gateways numbered and that are not in requests: dropped, lost, kept as dead letters, or still on their way';

CREATE OR REPLACE VIEW event_doubles
(
    gateway_boot UInt64 COMMENT 'Random id of one run of a gateway',
    gateway String COMMENT 'Gateway instance',
    gateway_seq UInt64 COMMENT 'Sequence number of the event',
    rows UInt64 COMMENT 'How many rows of requests it has',
    ts DateTime64(3, 'UTC') COMMENT 'When the request reached the gateway',
    first_ingested_at DateTime64(3, 'UTC') COMMENT 'When its first row was stored',
    last_ingested_at DateTime64(3, 'UTC') COMMENT 'When its last row was stored'
)
AS
WITH doubled AS
    (
        SELECT r.gateway_boot AS boot
        FROM requests AS r
        GROUP BY r.gateway_boot
        HAVING groupBitmap(r.gateway_seq) != count()
    )
SELECT
    r.gateway_boot AS gateway_boot,
    any(r.gateway) AS gateway,
    r.gateway_seq AS gateway_seq,
    count() AS rows,
    min(r.ts) AS ts,
    min(r.ingested_at) AS first_ingested_at,
    max(r.ingested_at) AS last_ingested_at
FROM requests AS r
WHERE r.gateway_boot IN (SELECT boot FROM doubled)
GROUP BY r.gateway_boot, r.gateway_seq
HAVING count() > 1
COMMENT 'Events that requests holds more than once; empty when nothing is doubled';
