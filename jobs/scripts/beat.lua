-- (id, fence, progress JSON or '') -> 1, or 0: refused, the worker has lost the job.
local id, fence, progress = ARGV[3], ARGV[4], ARGV[5]
local job = read(id)
if not holds(job, fence) then return 0 end
local beat = call('HINCRBY', key('job', id), 'beat', 1)
call('HSET', key('running'), id, fence .. ' ' .. beat)
if progress ~= '' then 
  write(job, {progress = progress})
  tell(job)
end
return 1
