-- Append the record of a source's end, behind all its frames, once. KEYS: stream, accepted, ended.
-- ARGV: source, floor, expected seq, end seq, record. Answers the next seq that Redis expects: the record is there if
-- that is the expected one. The numbers from there to the end belong to no event.
local accepted = math.max(tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0'), tonumber(ARGV[2]))
if accepted == tonumber(ARGV[3]) and redis.call('HSETNX', KEYS[3], ARGV[1], '0') == 1 then
  redis.call('XADD', KEYS[1], '*', 's', ARGV[1], 'o', ARGV[2], 'p', ARGV[3], 'a', ARGV[4], 'n', '0', 'e', ARGV[5])
end
return accepted
