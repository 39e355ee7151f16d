-- (id, owner or '') -> {record, standing} for its owner, or false.
-- Clients poll this, so the hash is read once and only what waits is looked for in the order.
local id, owner = ARGV[3], ARGV[4]
local flat = whole(id)
if #flat == 0 then return false end
local job = {id = id}
for i = 1, #flat, 2 do job[flat[i]] = flat[i + 1] end
if owner ~= '' and job.owner ~= owner then return false end
if job.state == 'queued' or job.state == 'in_progress' then return {flat, standing(job)} end
return {flat, {'', '0', ''}}
