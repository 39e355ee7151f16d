-- (id, release) -> 1 when that release was unclaimed and is back in the order, else 0.
local id, release = ARGV[3], ARGV[4]
local job = read(id)
if not job or call('HGET', key('released'), id) ~= release .. ' ' .. job.model then return 0 end
put_back(job)
wake()
return 1
