-- (worker, id, fence): its gang does not compute the attempt any more; the slot too unless it stores it.
-- What an attempt that was taken from its worker has stored is noted anew: its job's end noted it once,
-- and may have been swept before the upload ended. Files that a job was completed with stay.
local worker, id, fence = ARGV[3], ARGV[4], ARGV[5]
local job = read(id)
free_gang(worker, attempt_of(id, fence))
if not holds(job, fence) then
  call('SREM', key('held', worker), attempt_of(id, fence))
  if not (job and job.state == 'completed' and job.fence == fence) then
    call('ZADD', key('sweep'), unix_now() + SWEEP_GRACE_S, id .. '/' .. fence .. '/')
  end
end
wake()
return 1
