-- A job's webhook events and their deliveries. (id, owner or '') -> {delivery, ...}, or false: no such job.
local id, owner = ARGV[3], ARGV[4]
local job = read(id)
if not job or (owner ~= '' and job.owner ~= owner) then return false end
local found = {}
for _, event in ipairs(call('LRANGE', key('hooks', id), 0, -1)) do found[#found + 1] = delivery(event) end
return found
