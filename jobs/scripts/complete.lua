-- in_progress -> completed. (id, fence, artifacts JSON, usage JSON, device seconds,
-- {"store" | "step": seconds} as JSON) -> state or false.
-- A refused attempt's files are noted for the sweep: it may have stored them after its last sweep.
local KEPT, FORGOTTEN_S = 5, 7 * 86400

-- The middle one by pace: the first run of a gang is slow, and others now and then.
local function typical(runs)
  table.sort(runs, function(a, b) return a[3] / a[1] < b[3] / b[1] end)
  return runs[math.ceil(#runs / 2)]
end

-- By size, not one rate for all: a tiny job is all fixed cost and says nothing of a large one.
local function learn(job, device_s, took_s, now)
  local units, all = tonumber(job.units), key('runs', job.model)
  local size = tostring(math.floor(math.log(units) / math.log(2)))
  local own = cjson.decode(call('HGET', all, size) or '[]')
  own[#own + 1] = {units, device_s, took_s, now}
  if #own > KEPT then table.remove(own, 1) end
  call('HSET', all, size, cjson.encode(own))
  local costs, sizes = {}, call('HGETALL', all)
  for i = 1, #sizes, 2 do
    local runs = cjson.decode(sizes[i + 1])
    if runs[#runs][4] < now - FORGOTTEN_S then
      call('HDEL', all, sizes[i])
    else
      costs[#costs + 1] = typical(runs)
    end
  end
  table.sort(costs, function(a, b) return a[1] < b[1] end)
  call('SET', key('costs', job.model), cjson.encode(costs))
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
if not job.resumed then learn(job, seconds, now - tonumber(job.started_at), now) end
for stage, seconds_of_it in pairs(cjson.decode(ARGV[6]).timings_s) do
  observe('stage', stage .. ' ' .. job.model, seconds_of_it)
end
for what, seconds_of_it in pairs(cjson.decode(ARGV[8])) do observe(what, job.model, seconds_of_it) end
count('device_ms ' .. job.model, math.floor(1000 * seconds))
write(job, {artifacts = ARGV[5], usage = ARGV[6]})
remember(job, 'complete', fence, 'completed')
finish(job, 'completed', now)
return 'completed'
