-- queued -> failed: it has never started and its deadline is over. (id, error JSON) -> state or false.
local id = ARGV[3]
local job = read(id)
if not job or job.state ~= 'queued' then return false end
local due = call('ZSCORE', key('deadlines'), id)
local now = unix_now()
if not due or tonumber(due) > now then return false end
count_queued(job, -1)
call('HDEL', key('released'), id)
dequeue(job)
settle(job, 0)
write(job, {error = ARGV[4]})
finish(job, 'failed', now)
return 'failed'
