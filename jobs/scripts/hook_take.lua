-- Due events, held back from others meanwhile. (limit, hold in seconds) -> {{field, value, ...}, ...}
local now = unix_now()
local events = {}
for _, event in ipairs(call('ZRANGEBYSCORE', key('outbox'), '-inf', now, 'LIMIT', 0, ARGV[3])) do
  local job_id, owner, url = unpack(call('HMGET', key('hook', event), 'job', 'owner', 'url'))
  if not job_id then
    drop_hook(event)
  elseif call('EXISTS', gone_key(owner, url)) == 1 then
    settle_hook(event, job_id, 'disabled')
  else
    call('ZADD', key('outbox'), now + ARGV[4], event)
    events[#events + 1] = call('HGETALL', key('hook', event))
  end
end
return events
