-- Remove finished jobs past their retention. (limit) -> how many; call again while it is the limit.
local now = unix_now()
local ids = call('ZRANGEBYSCORE', key('expiry'), '-inf', now, 'LIMIT', 0, ARGV[3])
for _, id in ipairs(ids) do
  local job = read(id)
  if job then forget(job, now) else call('ZREM', key('expiry'), id) end
end
return #ids
