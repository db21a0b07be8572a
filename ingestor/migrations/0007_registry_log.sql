-- Every change of what operators set: the durable home of the registry, and who did what when.
CREATE TABLE IF NOT EXISTS registry_log
(
    org String COMMENT 'Organisation',
    version UInt64 COMMENT 'Of its record; rises with each change of any organisation',
    at DateTime64(3, 'UTC') COMMENT 'When it was changed',
    actor String COMMENT 'Who changed it: cli:USER, api:NAME, file:NAME; ingestor for records that were found without a log entry',
    action String COMMENT 'What was done',
    record String CODEC(ZSTD(3)) COMMENT 'The organisation after it, as JSON: key hashes and references, never a secret'
)
ENGINE = ReplacingMergeTree
ORDER BY (org, version)
COMMENT 'One row per change of an organisation, never removed';

CREATE OR REPLACE VIEW registry_changes
(
    org String COMMENT 'Organisation',
    version UInt64 COMMENT 'Of its record; rises with each change of any organisation',
    at DateTime64(3, 'UTC') COMMENT 'When it was changed',
    actor String COMMENT 'Who changed it',
    action String COMMENT 'What was done'
)
AS SELECT l.org AS org, l.version AS version, l.at AS at, l.actor AS actor, l.action AS action
FROM registry_log AS l FINAL
COMMENT 'Who changed what of which organisation, and when';
