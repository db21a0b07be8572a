#!lua flags=allow-oom
-- How far a source is: {accepted, stored, ended}, -1 where Redis does not know. KEYS: accepted, done, seen, ended.
-- ARGV: source, and of one that lives `now:next:started`, Unix ms: what ended before now has a number below next.
-- allow-oom: a full Redis must not look like a gateway that is gone.
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
end
local accepted = redis.call('HGET', KEYS[1], ARGV[1])
-- The marks of what is stored begin with the number below which nothing is missing.
local stored = string.match(redis.call('HGET', KEYS[2], ARGV[1]) or '-1', '^-?%d+')
return {tonumber(accepted or '-1'), tonumber(stored), (redis.call('HGET', KEYS[4], ARGV[1]) or '0') ~= '0' and 1 or 0}
