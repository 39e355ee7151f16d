-- Point to a checkpoint that is stored. (id, fence, checkpoint JSON) -> 1, or 0: refused.
-- The one before it is swept, or this one, which nobody will resume from; of a job that has ended all.
local id, fence, text = ARGV[3], ARGV[4], ARGV[5]
local job = read(id)
local folder, now = cjson.decode(text).folder, unix_now()
local before = job and job.checkpoint and cjson.decode(job.checkpoint).folder
if before == folder then return 1 end
if not holds(job, fence) then
  local lives = job and (job.state == 'queued' or job.state == 'in_progress')
  call('ZADD', key('sweep'), now + SWEEP_GRACE_S, lives and folder or id .. '/checkpoints/')
  return 0
end
if before then call('ZADD', key('sweep'), now, before) end
write(job, {checkpoint = text})
return 1
