-- (id, owner or '') -> {record, standing} for its owner, or false.
local id, owner = ARGV[3], ARGV[4]
local job = read(id)
if not job or (owner ~= '' and job.owner ~= owner) then return false end
return {whole(id), standing(job)}
