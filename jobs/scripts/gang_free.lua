-- (worker, id): its gang has stopped computing the job; the slot too unless it still stores it.
local worker, id = ARGV[3], ARGV[4]
local job = read(id)
if call('HGET', key('gangs'), worker) == id then call('HDEL', key('gangs'), worker) end
if not job or job.state ~= 'in_progress' or job.worker ~= worker then
  call('SREM', key('held', worker), id)
end
wake()
return 1
