-- in_progress -> failed. (id, fence, error JSON) -> state or false.
local id, fence = ARGV[3], ARGV[4]
local job = read(id)
local before = remembered(job, 'fail', fence)
if before then return before end
if not holds(job, fence) then return false end
local now = unix_now()
end_attempt(job, now, device_seconds(job, now))
let_go(job)
write(job, {error = ARGV[5]})
remember(job, 'fail', fence, 'failed')
finish(job, 'failed', now)
return 'failed'
