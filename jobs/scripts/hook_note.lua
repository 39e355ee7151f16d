-- What came of an attempt. (event, attempts made, the attempt as JSON, status, delay in seconds or '').
-- The status is pending, where a delay says when the next one is due, or what the event ends as.
local event, attempts, try, status, delay = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local KEPT, GONE_S = 20, 86400
local hook, tries = key('hook', event), key('tries', event)
local job_id, owner, url = unpack(call('HMGET', hook, 'job', 'owner', 'url'))
if not job_id or call('LINDEX', tries, -1) == try then return 0 end
call('RPUSH', tries, try)
call('LTRIM', tries, -KEPT, -1)
call('HSET', hook, 'attempt', attempts)
if status == 'disabled' then call('SET', gone_key(owner, url), '1', 'EX', GONE_S) end
if status == 'pending' then
  call('ZADD', key('outbox'), unix_now() + delay, event)
else
  settle_hook(event, job_id, status)
end
return 1
