-- (worker, 'finish' | 'hand_back' | 'undo') -> {ids of the jobs asked for}, or false: no such worker.
-- It takes no more jobs until undone; asked for is what its gang computes, not what it only stores.
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
if not holds(job, fence) then return {} end
-- As when it makes room for a higher priority: the worker leaves a checkpoint and hands it back.
if job.preempt ~= fence then
  write(job, {preempt = fence})
  call('PUBLISH', key('cancels'), id)
end
return {id}
