-- in_progress -> completed. (id, fence, artifacts JSON, usage JSON, device seconds) -> state or false.
-- A refused attempt's files are noted for the sweep: it may have stored them after its last sweep.
local id, fence, seconds = ARGV[3], ARGV[4], tonumber(ARGV[7])
local job = read(id)
local before = remembered(job, 'complete', fence)
if before then return before end
local now = unix_now()
local files = id .. '/' .. fence .. '/'
if not holds(job, fence) then
  call('ZADD', key('sweep'), now + SWEEP_GRACE_S, files)
  return false
end
end_attempt(job, now, seconds)
call('ZREM', key('sweep'), files)
let_go(job)
local rate, seen = key('rate', job.model), seconds / tonumber(job.units)
call('SET', rate, 0.8 * tonumber(call('GET', rate) or seen) + 0.2 * seen)
local pace, took = key('pace', job.model), (now - tonumber(job.started_at)) / tonumber(job.units)
call('SET', pace, 0.8 * tonumber(call('GET', pace) or took) + 0.2 * took)
for stage, seconds_of_it in pairs(cjson.decode(ARGV[6]).timings_s) do
  count('stage ' .. stage .. ' ' .. job.model)
  count('stage_ms ' .. stage .. ' ' .. job.model, math.floor(1000 * seconds_of_it))
end
count('device_ms ' .. job.model, math.floor(1000 * seconds))
write(job, {artifacts = ARGV[5], usage = ARGV[6]})
remember(job, 'complete', fence, 'completed')
finish(job, 'completed', now)
return 'completed'
