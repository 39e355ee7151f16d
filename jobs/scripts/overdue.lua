-- (limit) -> {id, seconds that it might wait, ...} of jobs whose deadline in the queue is over.
local found = {}
for _, id in ipairs(call('ZRANGEBYSCORE', key('deadlines'), '-inf', unix_now(), 'LIMIT', 0, ARGV[3])) do
  found[#found + 1] = id
  found[#found + 1] = call('HGET', key('job', id), 'max_waiting_s') or ''
end
return found
