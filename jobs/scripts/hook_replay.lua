-- Send an event once more, from the start of its schedule, also where 410 has disabled the receiver.
-- (id, owner or '', event) -> delivery, or false: no such job or event.
local id, owner, event = ARGV[3], ARGV[4], ARGV[5]
local job = read(id)
if not job or (owner ~= '' and job.owner ~= owner) then return false end
local hook = key('hook', event)
local its_job, url = unpack(call('HMGET', hook, 'job', 'url'))
if its_job ~= id then return false end
call('DEL', gone_key(job.owner, url))
call('HSET', hook, 'attempt', 0, 'status', 'pending')
call('ZADD', key('outbox'), unix_now(), event)
wake()
return delivery(event)
