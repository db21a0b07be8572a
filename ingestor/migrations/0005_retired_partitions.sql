-- A partition that nobody uses any more must not hold up what is said of the others.
ALTER TABLE ingestion_progress
    ADD COLUMN IF NOT EXISTS retired Bool DEFAULT false COMMENT 'Beyond LECTR_STREAM_PARTITIONS, and empty: nothing comes there any more';

CREATE OR REPLACE VIEW data_freshness
(
    org LowCardinality(String) COMMENT 'Organisation',
    last_request_at DateTime64(3, 'UTC') COMMENT 'Start of its last request that is stored, of the last 30 days',
    complete_up_to Nullable(DateTime64(3, 'UTC')) COMMENT 'Every request that a known gateway recorded before is stored. NULL before the first report',
    reported_at Nullable(DateTime64(3, 'UTC')) COMMENT 'When that was found out; if it is old, some partition has no ingestor'
)
AS SELECT
    r.org AS org,
    max(r.ts) AS last_request_at,
    (SELECT minOrNull(p.complete_up_to) FROM ingestion_progress AS p FINAL WHERE NOT p.retired) AS complete_up_to,
    (SELECT minOrNull(p.reported_at) FROM ingestion_progress AS p FINAL WHERE NOT p.retired) AS reported_at
FROM requests AS r
WHERE r.ts > now() - INTERVAL 30 DAY
GROUP BY org
COMMENT 'Up to when the data of each organisation is complete';
