#!lua flags=allow-oom
-- Frames that were accepted and are neither stored nor in the stream have vanished: expect them again from their sources.
-- KEYS: lease, pending, frames, accepted, done, ended. ARGV: owner, how often the marks were written. Answers how many
-- numbers, and changes nothing while there is work to do.
if redis.call('GET', KEYS[1]) ~= ARGV[1] or (redis.call('HGET', KEYS[5], 'writes') or '0') ~= ARGV[2] then
  return 0
end
if redis.call('EXISTS', KEYS[2]) == 1 or redis.call('XLEN', KEYS[3]) > 0 then
  return 0
end
local vanished = 0
local accepted = redis.call('HGETALL', KEYS[4])
for i = 1, #accepted, 2 do
  local marks = redis.call('HGET', KEYS[5], accepted[i]) or '0'
  local stored = string.match(marks, '^%d+')
  local missing = tonumber(accepted[i + 1]) - tonumber(stored)
  if missing > 0 then
    redis.call('HSET', KEYS[4], accepted[i], stored)
    vanished = vanished + missing
  end
end
-- A record of an end that is on no stream and not stored has vanished, or was dropped as something before it had.
local ended = redis.call('HGETALL', KEYS[6])
for i = 1, #ended, 2 do
  if ended[i + 1] == '0' then
    redis.call('HDEL', KEYS[6], ended[i])
  end
end
return vanished
