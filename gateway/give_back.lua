-- A record that a gateway had from this Redis, where Redis has an older one or none: put back and pushed once.
-- KEYS: organisations, version, versions, mark. ARGV: name, version, record, channel, another mark.
-- With another mark whoever polls by version reads everything again, and the ingestor logs what the log lacks; a Redis
-- that lost its mark does not get one here.
local function version_of(text)
  local readable, record = pcall(cjson.decode, text or '')
  local version = readable and type(record) == 'table' and record.version
  return type(version) == 'number' and version <= 9007199254740992 and version or -1
end
local version = tonumber(ARGV[2])
if redis.call('EXISTS', KEYS[4]) == 0 or version_of(redis.call('HGET', KEYS[1], ARGV[1])) >= version then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
if version > (tonumber(redis.call('GET', KEYS[2]) or '0') or 0) then
  redis.call('SET', KEYS[2], ARGV[2])
end
redis.call('SET', KEYS[4], ARGV[5])
redis.call('PUBLISH', ARGV[4], ARGV[3])
return 1
