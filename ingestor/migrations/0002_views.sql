-- For BI tools. Names and meaning of columns are stable; how they are computed may change.
CREATE OR REPLACE VIEW feature_cost_daily
(
    day Date COMMENT 'Day in UTC',
    org LowCardinality(String) COMMENT 'Organisation',
    feature String COMMENT 'Feature tag; untagged for requests without one',
    requests UInt64 COMMENT 'Requests, failed ones included',
    errors UInt64 COMMENT 'Requests that ended badly; clients that left on their own are not counted here',
    client_disconnects UInt64 COMMENT 'Requests whose client left before the end',
    cost Nullable(Decimal(38, 12)) COMMENT 'US dollars, sum of the known costs, NULL when none is known; see unpriced_requests for what is missing',
    estimated_cost Nullable(Decimal(38, 12)) COMMENT 'The part of cost whose token counts are estimates, NULL when there is none',
    unpriced_requests UInt64 COMMENT 'Requests whose cost is unknown',
    unpriced_share Float64 COMMENT 'unpriced_requests / requests, 0 to 1',
    estimated_requests UInt64 COMMENT 'Requests whose token counts are estimates',
    estimated_share Float64 COMMENT 'estimated_requests / requests, 0 to 1',
    input_tokens UInt64 COMMENT 'All input tokens',
    input_cache_read_tokens UInt64 COMMENT 'Input tokens read from prompt caches, part of input_tokens',
    input_cache_write_tokens UInt64 COMMENT 'Input tokens written to prompt caches, part of input_tokens',
    output_tokens UInt64 COMMENT 'All output tokens',
    output_reasoning_tokens UInt64 COMMENT 'Output tokens spent on reasoning, part of output_tokens'
)
AS SELECT
    toDate(r.ts) AS day,
    r.org AS org,
    r.feature AS feature,
    count() AS requests,
    countIf(r.error_source != '' AND r.error_category != 'client_disconnect') AS errors,
    countIf(r.error_category = 'client_disconnect') AS client_disconnects,
    sum(r.cost) AS cost,
    sumIf(r.cost, r.usage_source = 'estimated') AS estimated_cost,
    countIf(r.cost IS NULL) AS unpriced_requests,
    countIf(r.cost IS NULL) / count() AS unpriced_share,
    countIf(r.usage_source = 'estimated') AS estimated_requests,
    countIf(r.usage_source = 'estimated') / count() AS estimated_share,
    sum(r.input_tokens) AS input_tokens,
    sum(r.input_cache_read_tokens) AS input_cache_read_tokens,
    sum(toUInt64(r.input_cache_write_5m_tokens) + r.input_cache_write_1h_tokens + r.input_cache_write_other_tokens)
        AS input_cache_write_tokens,
    sum(r.output_tokens) AS output_tokens,
    sum(r.output_reasoning_tokens) AS output_reasoning_tokens
FROM requests AS r
GROUP BY day, org, feature
COMMENT 'Cost and usage per day, organisation and feature';

CREATE OR REPLACE VIEW feature_latency_hourly
(
    hour DateTime('UTC') COMMENT 'Start of the hour in UTC',
    org LowCardinality(String) COMMENT 'Organisation',
    feature String COMMENT 'Feature tag; untagged for requests without one',
    requests UInt64 COMMENT 'Requests, failed ones included',
    errors UInt64 COMMENT 'Requests that ended badly; clients that left on their own are not counted here',
    error_rate Float64 COMMENT 'errors / requests, 0 to 1',
    latency_p50_ms Nullable(Float64) COMMENT 'Median of latency_ms, exact',
    latency_p90_ms Nullable(Float64) COMMENT '90th percentile of latency_ms, exact',
    latency_p95_ms Nullable(Float64) COMMENT '95th percentile of latency_ms, exact',
    latency_p99_ms Nullable(Float64) COMMENT '99th percentile of latency_ms, exact',
    streams UInt64 COMMENT 'Requests with a time to first token',
    ttft_p50_ms Nullable(Float64) COMMENT 'Median time to first token of streams, exact; NULL without streams',
    ttft_p95_ms Nullable(Float64) COMMENT '95th percentile of time to first token, exact; NULL without streams',
    ttft_p99_ms Nullable(Float64) COMMENT '99th percentile of time to first token, exact; NULL without streams'
)
AS SELECT
    toStartOfHour(r.ts) AS hour,
    r.org AS org,
    r.feature AS feature,
    count() AS requests,
    countIf(r.error_source != '' AND r.error_category != 'client_disconnect') AS errors,
    countIf(r.error_source != '' AND r.error_category != 'client_disconnect') / count() AS error_rate,
    quantileExactInclusiveOrNull(0.5)(r.latency_ms) AS latency_p50_ms,
    quantileExactInclusiveOrNull(0.9)(r.latency_ms) AS latency_p90_ms,
    quantileExactInclusiveOrNull(0.95)(r.latency_ms) AS latency_p95_ms,
    quantileExactInclusiveOrNull(0.99)(r.latency_ms) AS latency_p99_ms,
    countIf(r.streaming AND r.ttft_ms IS NOT NULL) AS streams,
    quantileExactInclusiveOrNullIf(0.5)(r.ttft_ms, r.streaming) AS ttft_p50_ms,
    quantileExactInclusiveOrNullIf(0.95)(r.ttft_ms, r.streaming) AS ttft_p95_ms,
    quantileExactInclusiveOrNullIf(0.99)(r.ttft_ms, r.streaming) AS ttft_p99_ms
FROM requests AS r
GROUP BY hour, org, feature
COMMENT 'Latency, time to first token and errors per hour, organisation and feature';
