-- Change one organisation, if nothing was changed since it was read; a repeat is one change.
-- KEYS: organisations, version, versions, log.
-- ARGV: name, record that was read or '', version that was read, new record, its version, channel, then fields of the log.
local record = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if record == ARGV[4] then
  return 'done'
end
if record ~= ARGV[2] or (redis.call('GET', KEYS[2]) or '0') ~= ARGV[3] then
  return 'changed'
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
redis.call('SET', KEYS[2], ARGV[5])
redis.call('ZADD', KEYS[3], ARGV[5], ARGV[1])
redis.call('XADD', KEYS[4], '*', unpack(ARGV, 7))
redis.call('PUBLISH', ARGV[6], ARGV[4])
return 'done'
