#!lua flags=allow-oom
-- The owner of a partition. KEYS: lease. ARGV: owner, time to live in ms, acquire | renew | release.
-- allow-oom: a full Redis is emptied by ingestors, so they must be able to work when nothing else can write.
local holder = redis.call('GET', KEYS[1])
if ARGV[3] == 'release' then
  if holder == ARGV[1] then
    return redis.call('DEL', KEYS[1])
  end
  return 0
end
if holder == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
if ARGV[3] == 'acquire' and not holder then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 1
end
return 0
