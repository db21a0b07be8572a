#!lua flags=allow-oom
-- How far a source is: {accepted, stored, ended, waits, ours}. KEYS: accepted, done, seen, ended, stream, said.
-- ARGV: source; what is said of it, if anything, `now:next:started`, Unix ms: what ended before now has a number below
-- next; of one whose end was said the id of its entry; `living`, or `dead` if somebody who found its journal says it.
-- Accepted and stored are -1 where Redis does not know. Ended is when an end record was stored, 0 while one is on the
-- stream, else -1. Waits is 1 while the entry is on the stream. Ours is 1 if Redis remembers that this entry is the end.
-- allow-oom: a full Redis must not look like a gateway that is gone.
local accepted = redis.call('HGET', KEYS[1], ARGV[1])
-- The marks of what is stored begin with the number below which nothing is missing.
local stored = string.match(redis.call('HGET', KEYS[2], ARGV[1]) or '-1', '^-?%d+')
local ended = tonumber(redis.call('HGET', KEYS[4], ARGV[1]) or '-1')
local waits = ARGV[3] ~= '' and #redis.call('XRANGE', KEYS[5], ARGV[3], ARGV[3]) or 0
local ours = ARGV[3] ~= '' and redis.call('GET', KEYS[6]) == ARGV[3] and 1 or 0
if ARGV[2] == '' then
  -- Asked only.
elseif ARGV[4] == 'living' then
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
elseif ended == -1 or (ended > 0 and ours == 0) then
  -- It is waited for until its end is stored, and not beyond that. Of one that was given up nothing is waited for.
  redis.call('HSETNX', KEYS[3], ARGV[1], ARGV[2])
end
return {tonumber(accepted or '-1'), tonumber(stored), ended, waits, ours}
