-- in_progress -> queued, or failed at the cap: its beat is silent.
-- (lead token, id, fence, beat, max_lost, error JSON) -> state or false.
-- The lost attempt is not charged. Its gang is freed by its worker, should that still live.
local token, id, fence, beat, max_lost = ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
local job = read(id)
local before = remembered(job, 'lose', fence)
if before then return before end
if call('GET', key('lead')) ~= token then return 'not leading' end
if not holds(job, fence) or job.beat ~= beat then return false end
local now = unix_now()
end_attempt(job, now, 0)
count('lost ' .. job.model)
local lost = tonumber(job.lost) + 1
write(job, {lost = lost})
if lost >= max_lost then
  write(job, {error = ARGV[8]})
  remember(job, 'lose', fence, 'failed')
  finish(job, 'failed', now)
  return 'failed'
end
requeue(job)
return remember(job, 'lose', fence, 'queued')
