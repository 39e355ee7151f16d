-- (worker, 'finish' | 'hand_back' | 'undo') -> {ids of the jobs handed back}, or false: no such worker.
-- It takes no more jobs until undone; handed back is what its gang computes, not what it only stores.
local worker, how = ARGV[3], ARGV[4]
if call('EXISTS', key('worker', worker)) == 0 then return false end
if how == 'undo' then
  call('HDEL', key('drains'), worker)
  wake()
  return {}
end
call('HSET', key('drains'), worker, how)
local attempt = how == 'hand_back' and call('HGET', key('gangs'), worker)
if not attempt then return {} end
local id, fence = string.match(attempt, '^([^/]+)/(.*)$')
local job = read(id)
if remembered(job, 'requeue', fence) then return {id} end
if not holds(job, fence) then return {} end
take_back(job, unix_now())
return {id}
