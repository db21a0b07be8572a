#!lua flags=allow-oom
-- How far a source is: {accepted, stored, ended, waits}. KEYS: accepted, done, seen, ended, stream.
-- ARGV: source; of one that lives `now:next:started`, Unix ms: what ended before now has a number below next; of one whose
-- end was said the id of its entry. Accepted and stored are -1 where Redis does not know. Ended is when an end record was
-- stored, 0 while one is on the stream, else -1. Waits is 1 while the entry is on the stream.
-- allow-oom: a full Redis must not look like a gateway that is gone.
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
end
local accepted = redis.call('HGET', KEYS[1], ARGV[1])
-- The marks of what is stored begin with the number below which nothing is missing.
local stored = string.match(redis.call('HGET', KEYS[2], ARGV[1]) or '-1', '^-?%d+')
local ended = redis.call('HGET', KEYS[4], ARGV[1])
local waits = ARGV[3] ~= '' and #redis.call('XRANGE', KEYS[5], ARGV[3], ARGV[3]) or 0
return {tonumber(accepted or '-1'), tonumber(stored), tonumber(ended or '-1'), waits}
