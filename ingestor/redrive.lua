#!lua flags=allow-oom
-- Put a dead letter back onto the stream, to be tried again. KEYS: dead, frames. ARGV: id in the dead-letter stream.
-- The mark `r` says that its numbers count as taken care of and that ClickHouse is to be asked which of them it has.
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #found == 0 then
  return 0
end
local again = {'r', '1'}
local fields = found[1][2]
for i = 1, #fields, 2 do
  if fields[i] ~= 'id' and fields[i] ~= 'reason' and fields[i] ~= 'detail' and fields[i] ~= 'r' then
    again[#again + 1] = fields[i]
    again[#again + 1] = fields[i + 1]
  end
end
redis.call('XADD', KEYS[2], '*', unpack(again))
redis.call('XDEL', KEYS[1], ARGV[1])
return 1
