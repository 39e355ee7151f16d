-- Due events, held back from others meanwhile. (limit, hold in seconds) -> {{field, value, ...}, ...}
local now = unix_now()
local events = {}
for _, event in ipairs(call('ZRANGEBYSCORE', key('outbox'), '-inf', now, 'LIMIT', 0, ARGV[3])) do
  local hook = call('HGETALL', key('hook', event))
  if #hook == 0 then
    call('ZREM', key('outbox'), event)
  else
    call('ZADD', key('outbox'), now + ARGV[4], event)
    events[#events + 1] = hook
  end
end
return events
