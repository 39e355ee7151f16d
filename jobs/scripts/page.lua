-- (owner, after or '', its time, limit, 'asc' or 'desc') -> job ids of the owner after that one.
local index, after, limit = key('owner', ARGV[3]), ARGV[4], tonumber(ARGV[6])
local rank, range, from, to = 'ZREVRANK', 'ZREVRANGE', '(' .. ARGV[5], '+inf'
if ARGV[7] == 'asc' then
  rank, range, from, to = 'ZRANK', 'ZRANGE', '-inf', '(' .. ARGV[5]
end
local start = 0
if after ~= '' then
  local place = call(rank, index, after)
  -- Deleted meanwhile: go on by its time.
  start = place and place + 1 or call('ZCOUNT', index, from, to)
end
return call(range, index, start, start + limit - 1)
