-- What became of the events of each run of a gateway: what is stored, what is missing, up to when all is here.
CREATE TABLE IF NOT EXISTS gateway_boots
(
    gateway_boot UInt64 COMMENT 'Random id of one run of a gateway',
    gateway LowCardinality(String) COMMENT 'Gateway instance',
    started_at DateTime64(3, 'UTC') COMMENT 'When it started',
    ended_at DateTime64(3, 'UTC') COMMENT 'When it ended; of one that was killed, when its journal was found',
    events UInt64 COMMENT 'Sequence numbers that it used; those without a row in requests are in event_gaps',
    unfinished UInt64 COMMENT 'Requests that it was serving when it was killed; they left no event',
    killed Bool COMMENT 'It did not end in order',
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When the row was stored'
)
ENGINE = ReplacingMergeTree(ingested_at)
ORDER BY gateway_boot
COMMENT 'One row per ended run of a gateway';

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
        LEFT JOIN (SELECT gateway_boot, argMax(events, ingested_at) AS events FROM gateway_boots GROUP BY gateway_boot) AS b
            ON b.gateway_boot = r.gateway_boot
        GROUP BY r.gateway_boot
        HAVING count() != greatest(max(r.gateway_seq) + 1, any(b.events))
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
