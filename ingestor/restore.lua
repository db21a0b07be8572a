-- Records from the log take the place of older ones, and of none at all; newer ones stay.
-- KEYS: organisations, version, versions. ARGV: name, version, record for each.
local highest = tonumber(redis.call('GET', KEYS[2]) or '0')
local restored = 0
for i = 1, #ARGV, 3 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  local version = tonumber(ARGV[i + 1])
  local readable, record = pcall(cjson.decode, known or '')
  if not (known and readable and type(record) == 'table' and tonumber(record.version or '0') >= version) then
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
