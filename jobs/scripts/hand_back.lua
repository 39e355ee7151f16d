-- in_progress -> queued: drain or preemption, which counts against nothing. (id, fence) -> state or false.
local id, fence = ARGV[3], ARGV[4]
local job = read(id)
local before = remembered(job, 'hand_back', fence)
if before then return before end
if not holds(job, fence) then return false end
local now = unix_now()
end_attempt(job, now, device_seconds(job, now))
let_go(job)
requeue(job)
return remember(job, 'hand_back', fence, 'queued')
