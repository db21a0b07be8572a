#!lua flags=allow-oom
-- A batch is stored: advance the marks, drop its entries, drop its record, forget who ended; all or nothing.
-- KEYS: lease, pending, frames, done, accepted, seen, ended, fresh. ARGV: owner, record, last entry id, now in ms,
-- how often the marks were written before, number of sources, then source, marks, latest end of its events in ms or ''
-- for each, then the sources that ended.
-- include run_id.lua
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'lease'
end
if redis.call('GET', KEYS[2]) ~= ARGV[2] then
  return 'pending'
end
local run = run_id()
if redis.call('HGET', KEYS[4], 'run') ~= run or (redis.call('HGET', KEYS[4], 'writes') or '0') ~= ARGV[5] then
  return 'run'
end
redis.call('HINCRBY', KEYS[4], 'writes', 1)
local following = 7 + 3 * tonumber(ARGV[6])
for i = 7, following - 1, 3 do
  redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 1])
  if ARGV[i + 2] ~= '' then
    redis.call('HSET', KEYS[8], ARGV[i], ARGV[i + 2])
  end
end
for i = following, #ARGV do
  redis.call('HSET', KEYS[7], ARGV[i], ARGV[4])
  for _, key in ipairs({KEYS[4], KEYS[5], KEYS[6], KEYS[8]}) do
    redis.call('HDEL', key, ARGV[i])
  end
end
-- MINID keeps its own id, so the last entry goes by name. Batches start at the head: all below belongs to this one.
redis.call('XTRIM', KEYS[3], 'MINID', '=', ARGV[3])
redis.call('XDEL', KEYS[3], ARGV[3])
redis.call('DEL', KEYS[2])
return 'ok'
