-- (worker, id, fence): its gang does not compute the attempt any more; the slot too unless it stores it.
local worker, id, fence = ARGV[3], ARGV[4], ARGV[5]
local job = read(id)
free_gang(worker, attempt_of(id, fence))
if not holds(job, fence) then call('SREM', key('held', worker), attempt_of(id, fence)) end
wake()
return 1
