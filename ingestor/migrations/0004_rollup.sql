-- Requests per hour and what they were for, kept up to date by every insert into requests. Read it through the view
-- usage_hourly: the rows of one hour are merged in the background.
CREATE TABLE IF NOT EXISTS requests_hourly
(
    hour DateTime('UTC') COMMENT 'Start of the hour in UTC',
    org LowCardinality(String) COMMENT 'Organisation',
    feature String COMMENT 'Feature tag',
    task String COMMENT 'Task tag',
    provider LowCardinality(String) COMMENT 'Provider',
    model LowCardinality(String) COMMENT 'Model that answered; the requested one where none did',
    requests SimpleAggregateFunction(sum, UInt64) COMMENT 'Requests, failed ones included',
    errors SimpleAggregateFunction(sum, UInt64) COMMENT 'Requests that ended badly, but for clients that left',
    client_disconnects SimpleAggregateFunction(sum, UInt64) COMMENT 'Requests whose client left before the end',
    streams SimpleAggregateFunction(sum, UInt64) COMMENT 'Streamed requests',
    priced_requests SimpleAggregateFunction(sum, UInt64) COMMENT 'Requests whose cost is known',
    estimated_requests SimpleAggregateFunction(sum, UInt64) COMMENT 'Requests whose token counts are estimates',
    cost SimpleAggregateFunction(sum, Decimal(38, 12)) COMMENT 'US dollars, sum of the known costs',
    estimated_cost SimpleAggregateFunction(sum, Decimal(38, 12)) COMMENT 'The part of cost whose token counts are estimates',
    input_tokens SimpleAggregateFunction(sum, UInt64) COMMENT 'All input tokens',
    input_cache_read_tokens SimpleAggregateFunction(sum, UInt64) COMMENT 'Input tokens read from prompt caches',
    output_tokens SimpleAggregateFunction(sum, UInt64) COMMENT 'All output tokens',
    output_reasoning_tokens SimpleAggregateFunction(sum, UInt64) COMMENT 'Output tokens spent on reasoning',
    latency_ms AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), Nullable(Float32)) COMMENT 'Digest of latency_ms',
    ttft_ms AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), Nullable(Float32)) COMMENT 'Digest of ttft_ms'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (org, hour, feature, task, provider, model)
SETTINGS
    -- A repeat that requests recognises must be recognised here too, or it would be counted twice.
    non_replicated_deduplication_window = 10000,
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800
COMMENT 'Hourly sums of requests; read usage_hourly instead';

CREATE MATERIALIZED VIEW IF NOT EXISTS requests_to_hourly TO requests_hourly
AS SELECT
    toStartOfHour(r.ts) AS hour,
    r.org AS org,
    r.feature AS feature,
    r.task AS task,
    r.provider AS provider,
    if(r.model_actual = '', r.model_requested, toString(r.model_actual)) AS model,
    count() AS requests,
    countIf(r.error_source != '' AND r.error_category != 'client_disconnect') AS errors,
    countIf(r.error_category = 'client_disconnect') AS client_disconnects,
    countIf(r.streaming) AS streams,
    count(r.cost) AS priced_requests,
    countIf(r.usage_source = 'estimated') AS estimated_requests,
    ifNull(sum(r.cost), toDecimal128(0, 12)) AS cost,
    ifNull(sumIf(r.cost, r.usage_source = 'estimated'), toDecimal128(0, 12)) AS estimated_cost,
    sum(r.input_tokens) AS input_tokens,
    sum(r.input_cache_read_tokens) AS input_cache_read_tokens,
    sum(r.output_tokens) AS output_tokens,
    sum(r.output_reasoning_tokens) AS output_reasoning_tokens,
    quantilesTDigestState(0.5, 0.9, 0.95, 0.99)(r.latency_ms) AS latency_ms,
    quantilesTDigestState(0.5, 0.9, 0.95, 0.99)(r.ttft_ms) AS ttft_ms
FROM requests AS r
GROUP BY hour, org, feature, task, provider, model
COMMENT 'Fills requests_hourly with every insert into requests';

CREATE OR REPLACE VIEW usage_hourly
(
    hour DateTime('UTC') COMMENT 'Start of the hour in UTC',
    org LowCardinality(String) COMMENT 'Organisation',
    feature String COMMENT 'Feature tag; untagged for requests without one',
    task String COMMENT 'Task tag',
    provider LowCardinality(String) COMMENT 'Provider',
    model LowCardinality(String) COMMENT 'Model that answered; the requested one where none did',
    requests UInt64 COMMENT 'Requests, failed ones included',
    errors UInt64 COMMENT 'Requests that ended badly; clients that left on their own are not counted here',
    client_disconnects UInt64 COMMENT 'Requests whose client left before the end',
    streams UInt64 COMMENT 'Streamed requests',
    cost Nullable(Decimal(38, 12)) COMMENT 'US dollars, sum of the known costs, NULL when none is known',
    estimated_cost Nullable(Decimal(38, 12)) COMMENT 'The part of cost whose token counts are estimates, NULL when no cost is known',
    unpriced_requests UInt64 COMMENT 'Requests whose cost is unknown',
    estimated_requests UInt64 COMMENT 'Requests whose token counts are estimates',
    input_tokens UInt64 COMMENT 'All input tokens',
    input_cache_read_tokens UInt64 COMMENT 'Input tokens read from prompt caches, part of input_tokens',
    output_tokens UInt64 COMMENT 'All output tokens',
    output_reasoning_tokens UInt64 COMMENT 'Output tokens spent on reasoning, part of output_tokens',
    latency_p50_ms Nullable(Float32) COMMENT 'Median of latency_ms, approximate (t-digest)',
    latency_p95_ms Nullable(Float32) COMMENT '95th percentile of latency_ms, approximate (t-digest)',
    latency_p99_ms Nullable(Float32) COMMENT '99th percentile of latency_ms, approximate (t-digest)',
    ttft_p50_ms Nullable(Float32) COMMENT 'Median time to first token of streams, approximate (t-digest)',
    ttft_p95_ms Nullable(Float32) COMMENT '95th percentile of time to first token, approximate (t-digest)'
)
AS SELECT
    h.hour AS hour,
    h.org AS org,
    h.feature AS feature,
    h.task AS task,
    h.provider AS provider,
    h.model AS model,
    sum(h.requests) AS requests,
    sum(h.errors) AS errors,
    sum(h.client_disconnects) AS client_disconnects,
    sum(h.streams) AS streams,
    if(sum(h.priced_requests) = 0, NULL, sum(h.cost)) AS cost,
    if(sum(h.priced_requests) = 0, NULL, sum(h.estimated_cost)) AS estimated_cost,
    sum(h.requests) - sum(h.priced_requests) AS unpriced_requests,
    sum(h.estimated_requests) AS estimated_requests,
    sum(h.input_tokens) AS input_tokens,
    sum(h.input_cache_read_tokens) AS input_cache_read_tokens,
    sum(h.output_tokens) AS output_tokens,
    sum(h.output_reasoning_tokens) AS output_reasoning_tokens,
    quantilesTDigestMerge(0.5, 0.9, 0.95, 0.99)(h.latency_ms)[1] AS latency_p50_ms,
    quantilesTDigestMerge(0.5, 0.9, 0.95, 0.99)(h.latency_ms)[3] AS latency_p95_ms,
    quantilesTDigestMerge(0.5, 0.9, 0.95, 0.99)(h.latency_ms)[4] AS latency_p99_ms,
    quantilesTDigestMerge(0.5, 0.9, 0.95, 0.99)(h.ttft_ms)[1] AS ttft_p50_ms,
    quantilesTDigestMerge(0.5, 0.9, 0.95, 0.99)(h.ttft_ms)[3] AS ttft_p95_ms
FROM requests_hourly AS h
GROUP BY hour, org, feature, task, provider, model
COMMENT 'Requests, cost, tokens and latency per hour, organisation, feature, task, provider and model';

CREATE TABLE IF NOT EXISTS ingestion_progress
(
    partition UInt16 COMMENT 'Stream partition',
    complete_up_to DateTime64(3, 'UTC') COMMENT 'Every request that was recorded before is in requests',
    missing UInt64 COMMENT 'Events that no row, dead letter or gateway accounts for, of gateways that are still known',
    waiting_frames UInt64 COMMENT 'Frames in the stream',
    reported_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When an ingestor wrote this'
)
ENGINE = ReplacingMergeTree(reported_at)
ORDER BY partition
COMMENT 'How far each stream partition is; the newest row of a partition counts';

CREATE OR REPLACE VIEW data_freshness
(
    org LowCardinality(String) COMMENT 'Organisation',
    last_request_at DateTime64(3, 'UTC') COMMENT 'Start of its last request that is stored, of the last 30 days',
    complete_up_to Nullable(DateTime64(3, 'UTC')) COMMENT 'Every request that was recorded before is stored. NULL before the first report',
    reported_at Nullable(DateTime64(3, 'UTC')) COMMENT 'When that was found out; if it is old, no ingestor is working'
)
AS SELECT
    r.org AS org,
    max(r.ts) AS last_request_at,
    (SELECT minOrNull(p.complete_up_to) FROM ingestion_progress AS p FINAL) AS complete_up_to,
    (SELECT minOrNull(p.reported_at) FROM ingestion_progress AS p FINAL) AS reported_at
FROM requests AS r
WHERE r.ts > now() - INTERVAL 30 DAY
GROUP BY org
COMMENT 'Up to when the data of each organisation is complete';
