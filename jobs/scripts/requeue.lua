-- in_progress -> queued: an admin takes it from its worker at once, which counts against nothing.
-- The worker hears of it as of a cancel and then frees its gang itself. (id, fence) -> state or false.
local id, fence = ARGV[3], ARGV[4]
local job = read(id)
local before = remembered(job, 'requeue', fence)
if before then return before end
if not holds(job, fence) then return false end
local now = unix_now()
end_attempt(job, now, device_seconds(job, now))
call('PUBLISH', key('cancels'), id)
requeue(job)
return remember(job, 'requeue', fence, 'queued')
