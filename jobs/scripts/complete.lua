-- in_progress -> completed. (id, fence, artifacts JSON, usage JSON, device seconds,
-- {"store" | "step": seconds} as JSON) -> state or false.
-- A refused attempt's files are noted for the sweep: it may have stored them after its last sweep.
local DECAY = 0.8  -- of a finished job's weight, with each further one

-- Sums, not an average of rates: a tiny job is all fixed cost, and its rate says little of a large one.
local function learn(job, device_s, took_s)
  local work, sums = key('work', job.model), {}
  for name, seen in pairs({units = tonumber(job.units), device_s = device_s, took_s = took_s}) do
    sums[name] = DECAY * tonumber(call('HGET', work, name) or 0) + seen
    call('HSET', work, name, sums[name])
  end
  call('SET', key('rate', job.model), sums.device_s / sums.units)
  call('SET', key('pace', job.model), sums.took_s / sums.units)
end

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
-- An attempt that went on from a checkpoint did not do all the work.
if not job.resumed then learn(job, seconds, now - tonumber(job.started_at)) end
for stage, seconds_of_it in pairs(cjson.decode(ARGV[6]).timings_s) do
  observe('stage', stage .. ' ' .. job.model, seconds_of_it)
end
for what, seconds_of_it in pairs(cjson.decode(ARGV[8])) do observe(what, job.model, seconds_of_it) end
count('device_ms ' .. job.model, math.floor(1000 * seconds))
write(job, {artifacts = ARGV[5], usage = ARGV[6]})
remember(job, 'complete', fence, 'completed')
finish(job, 'completed', now)
return 'completed'
