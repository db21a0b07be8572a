-- With which key a request came, and what was tried before the answer that it got.
ALTER TABLE requests
    ADD COLUMN IF NOT EXISTS key LowCardinality(String) COMMENT 'Name of the key of the organisation that it came with',
    ADD COLUMN IF NOT EXISTS attempts Array(LowCardinality(String)) COMMENT 'Tries of a rule that failed before: provider/model, then the status or the code of the fault';
