-- Records from the log take the place of older ones, and of what is none; newer ones stay.
-- KEYS: organisations, version, versions. ARGV: name, version, record for each.
local function version_of(text)
  local readable, record = pcall(cjson.decode, text or '')
  local version = readable and type(record) == 'table' and record.version
  return type(version) == 'number' and version <= 9007199254740992 and version or -1
end
local highest = tonumber(redis.call('GET', KEYS[2]) or '0') or 0
local restored = 0
for i = 1, #ARGV, 3 do
  local version = tonumber(ARGV[i + 1])
  if version_of(redis.call('HGET', KEYS[1], ARGV[i])) < version then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
    redis.call('ZADD', KEYS[3], ARGV[i + 1], ARGV[i])
    restored = restored + 1
  end
  if version > highest then
    highest = version
    redis.call('SET', KEYS[2], ARGV[i + 1])
  end
end
return restored
