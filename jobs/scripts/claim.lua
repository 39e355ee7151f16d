-- queued -> in_progress. (id, release, worker, nonce) -> record, or false: refused.
-- A worker whose gang computes something else or is not ready, that is drained, or whose announcement
-- has run out or was never made, returns the job to the order: the release was meant for another's
-- gang, whoever got the message. It wakes nobody: were the free gang's worker deaf, relay and claim
-- would chase each other. Nothing is stranded: what announces itself no more is given no release, and
-- every beat announces.
local id, release, worker, nonce = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local job = read(id)
if not job then return false end
if holds(job, job.attempt .. '-' .. nonce) then return whole(id) end
if call('HGET', key('released'), id) ~= release .. ' ' .. job.model then return false end
local announced = call('GET', key('worker', worker))
local info = announced and cjson.decode(announced)
if not info or info.state ~= 'ready' or call('HEXISTS', key('gangs'), worker) == 1
  or call('HEXISTS', key('drains'), worker) == 1 then
  put_back(job)
  return false
end
local attempt = tonumber(job.attempt) + 1
write(job, {
  state = 'in_progress', attempt = attempt, fence = attempt .. '-' .. nonce, beat = 0,
  worker = worker, started_at = unix_now(), gang_size = math.max(1, #info.devices),
})
erase(job, 'progress', 'error', 'resumed')
count_queued(job, -1)
tally(job, 'running', 1)
call('HDEL', key('released'), id)
call('ZREM', key('deadlines'), id)
call('HSET', key('running'), id, job.fence .. ' 0')
call('HSET', key('gangs'), worker, attempt_of(id, job.fence))
call('SADD', key('held', worker), attempt_of(id, job.fence))
call('ZADD', key('sweep'), '+inf', id .. '/' .. job.fence .. '/')
count('claims ' .. job.model)
if attempt == 1 then
  observe('queue', job.model, math.max(0, tonumber(job.started_at) - tonumber(job.created_at)))
  notify(job, tonumber(job.started_at))
end
tell(job)
return whole(id)
