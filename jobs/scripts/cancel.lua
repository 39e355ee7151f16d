-- queued | in_progress -> cancelled. (id, owner or '') -> record (whatever its state), or false.
local id, owner = ARGV[3], ARGV[4]
local job = read(id)
if not job or (owner ~= '' and job.owner ~= owner) then return false end
if job.state == 'queued' or job.state == 'in_progress' then cancel_live(job, unix_now()) end
return whole(id)
