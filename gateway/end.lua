-- Append the record of a source's end, behind all its frames. KEYS: stream, accepted, ended, said.
-- ARGV: source, floor, expected seq, end seq, record, for how many s it is remembered which entry it is. Answers {the
-- next seq that Redis expects, an entry's id}: the record is there if the seq is the expected one, and stored once the
-- entry is gone. The numbers from there to the end belong to no event. A record that is on the stream already, with no
-- frame behind it, is enough: the last entry stands for it.
local accepted = math.max(tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0'), tonumber(ARGV[2]))
if accepted ~= tonumber(ARGV[3]) then
  return {accepted, ''}
end
if redis.call('HGET', KEYS[3], ARGV[1]) == '0' then
  local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
  local stands = last[1] and last[1][1] or '0-1'
  redis.call('SET', KEYS[4], stands, 'EX', ARGV[6])
  return {accepted, stands}
end
redis.call('HSET', KEYS[3], ARGV[1], '0')
local fields = {'s', ARGV[1], 'o', ARGV[2], 'p', ARGV[3], 'a', ARGV[4], 'n', '0', 'e', ARGV[5]}
local entry = redis.call('XADD', KEYS[1], '*', unpack(fields))
redis.call('SET', KEYS[4], entry, 'EX', ARGV[6])
return {accepted, entry}
