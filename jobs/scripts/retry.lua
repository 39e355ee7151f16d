-- in_progress -> queued, or failed at the cap. (id, fence, error JSON, max_failures) -> state or false.
local id, fence, max_failures = ARGV[3], ARGV[4], tonumber(ARGV[6])
local job = read(id)
local before = remembered(job, 'retry', fence)
if before then return before end
if not holds(job, fence) then return false end
local now = unix_now()
end_attempt(job, now, device_seconds(job, now))
let_go(job)
local failures = tonumber(job.failures) + 1
write(job, {failures = failures, error = ARGV[5]})
if failures >= max_failures then
  remember(job, 'retry', fence, 'failed')
  finish(job, 'failed', now)
  return 'failed'
end
requeue(job)
return remember(job, 'retry', fence, 'queued')
