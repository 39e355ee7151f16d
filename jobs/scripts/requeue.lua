-- in_progress -> queued: an admin takes it from its worker, which counts against nothing.
-- (id, fence) -> state or false.
local id, fence = ARGV[3], ARGV[4]
local job = read(id)
local before = remembered(job, 'requeue', fence)
if before then return before end
if not holds(job, fence) then return false end
return take_back(job, unix_now())
