-- (id, fence, progress JSON or '', resumed JSON or '')
-- -> 1, 2: held, but to be handed back, or 0: refused, the worker has lost the job.
local id, fence, progress, resumed = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local job = read(id)
if not holds(job, fence) then return 0 end
local beat = call('HINCRBY', key('job', id), 'beat', 1)
call('HSET', key('running'), id, fence .. ' ' .. beat)
if progress ~= '' then 
  write(job, {progress = progress})
  tell(job)
end
if resumed ~= '' and job.resumed ~= resumed then write(job, {resumed = resumed}) end
return job.preempt == fence and 2 or 1
