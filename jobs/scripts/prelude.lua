-- Prepended to every script: keys, record, fair order, ends of attempts. ARGV[1] is the key prefix,
-- ARGV[2] the retention in seconds, the script's own arguments follow. Redis Cluster is out, so keys
-- are built here. A script's writes replicate as one MULTI; nothing may fail after the first write.
--
-- job:<id>                       hash   the record, and beside it: model, units, charge, gang_size, ended, preempt
-- owner:<owner>                  zset   job ids by created_at
-- queued                         count  of jobs in state queued
-- tally:<owner>                  hash   its queued and running jobs, device-ms estimated for both
-- spent:<owner>:<day>            count  device-ms that ended on that day (unix days)
-- once:<owner>:<key>             string "<job id> <hash of the body>" under an idempotency key
-- counts                         hash   "<what> <labels ...> <model>" -> how often, or ms in all
-- key:<id>, keys                 hash of an API key (jobs/keys.py), set of all their ids
-- levels:<model>                 zset   priorities that have waiting jobs
-- order:<priority>:<model>       zset   owners that wait, by virtual time in device-seconds
-- times:<priority>:<model>       zset   virtual times of owners that do not wait
-- floor:<priority>:<model>       float  virtual time of the owner served last
-- queue:<priority>:<owner>:<model> zset waiting job ids by created_at
-- runs:<model>                   hash   size of a job, as a power of two -> the last runs of that size, as JSON
-- costs:<model>                  string a typical run of each size, the smallest first, as JSON: {units,
--                                       device_s, took_s} each, from claim to completed
-- steps:<kind of gang>           hash   longest seconds by step (jobs/steps.py); runs out unless renewed
-- released                       hash   job id -> "<release> <model>", handed to Celery, not claimed
-- running                        hash   job id -> "<fence> <beat>"
-- worker:<id>, workers, models   what workers announce (jobs/workers.py)
-- gangs                          hash   worker id -> "<id>/<fence>" of the attempt that its gang computes
-- held:<worker>                  set    "<id>/<fence>" of attempts that the worker has not ended
-- drains                         hash   worker id -> finish | hand_back: it takes no more jobs
-- deadlines                      zset   ids of jobs that have never started, by when they must have
-- sweep                          zset   "<id>/<fence>/", "<id>/inputs/" or "<id>/" by the time they are due
-- expiry                         zset   finished job ids by expires_at
-- outbox                         zset   webhook events by due time
-- preview:<id>                   string "<fence> <base64>": what the running attempt makes, for a minute
-- hooks:<id>                     list   the job's webhook events
-- hook:<event>, tries:<event>    hash of one event, list of its last deliveries as JSON: both live as
--                                long as the job, and until the event is settled
-- gone:<owner>:<SHA-1 of a URL>  string the receiver said 410: nothing more goes there
-- wake                           list   at most one token: the relay has something to do
-- preempting                     hash   model -> "<id>/<fence>" asked to hand back for a higher priority
-- lead                           string token of the leading relay

local PREFIX, RETENTION_S = ARGV[1], tonumber(ARGV[2])
local SWEEP_GRACE_S = 60       -- a fenced-out worker may still be uploading
local REMEMBERED_OWNERS = 10000
local call = redis.call

local function key(...)
  return PREFIX .. table.concat({...}, ':')
end

local function unix_now()
  local time = call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local function wake()
  if call('EXISTS', key('wake')) == 0 then call('LPUSH', key('wake'), '1') end
end

-- The record ---------------------------------------------------------------------------------------

local FIELDS = {
  'state', 'owner', 'model', 'priority', 'created_at', 'started_at', 'attempt', 'fence', 'beat',
  'release', 'failures', 'lost', 'worker', 'webhook_url', 'webhook_events', 'units', 'charge', 'gang_size', 'ended',
  'retention_s', 'estimate', 'checkpoint', 'resumed', 'preempt',
}

local function read(id)
  local values = call('HMGET', key('job', id), unpack(FIELDS))
  if not values[1] then return nil end
  local job = {id = id}
  for i, name in ipairs(FIELDS) do job[name] = values[i] end
  return job
end

local function write(job, fields)
  local flat = {}
  for name, value in pairs(fields) do
    flat[#flat + 1] = name
    flat[#flat + 1] = value
    job[name] = value
  end
  call('HSET', key('job', job.id), unpack(flat))
end

local function erase(job, ...)
  call('HDEL', key('job', job.id), ...)
end

local function whole(id)
  return call('HGETALL', key('job', id))
end

local function inputs_of(id)
  return id .. '/inputs/'
end

-- Somebody may be watching; a hint only.
local function tell(job)
  call('PUBLISH', key('events'), job.id)
end

-- What happened so far, for /metrics. The model's name comes last: it may have any character.
local function count(what, amount)
  call('HINCRBY', key('counts'), what, amount or 1)
end

-- A histogram of /metrics: how many took at most each bound (jobs/meter.py has the same), and ms in all.
local BOUNDS_S = {0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400}

local function observe(what, labels, seconds)
  local least = 'inf'
  for _, bound in ipairs(BOUNDS_S) do
    if seconds <= bound then
      least = bound
      break
    end
  end
  count(what .. '_le ' .. least .. ' ' .. labels)
  count(what .. '_sum ' .. labels, math.floor(1000 * seconds))
end

-- What an owner has: whole numbers, for HINCRBYFLOAT in a script crashes redis-server 6.2 ------------

local function tally(job, field, amount)
  if amount == 0 then return end
  if call('HINCRBY', key('tally', job.owner), field, amount) <= 0 then
    call('HDEL', key('tally', job.owner), field)
  end
end

local function count_queued(job, amount)
  call('INCRBY', key('queued'), amount)
  tally(job, 'queued', amount)
end

local function spent_key(owner, now)
  return key('spent', owner, math.floor(now / 86400))
end

local function spend(job, seconds, now)
  if seconds <= 0 then return end
  call('INCRBY', spent_key(job.owner, now), math.ceil(1000 * seconds))
  call('EXPIRE', spent_key(job.owner, now), 2 * 86400)
end

-- What a job takes (jobs/cost.py) --------------------------------------------------------------------

local REACH = 4  -- times the largest run: of what is larger still nobody can tell

-- Device-seconds and seconds of a job of so many units, and whether that is more than a guess; nothing
-- before the first run. Linear between runs, in proportion below them. Beyond them it grows as from the
-- smallest to the largest: what every job takes once, however small, does not grow.
local function expected(model, units)
  local runs = cjson.decode(call('GET', key('costs', model)) or '[]')
  local first, last = runs[1], runs[#runs]
  if not first then return end
  local low, high, beyond = {0, 0, 0}, first, units > last[1]
  for i = 2, #runs do
    if units > runs[i - 1][1] then low, high = runs[i - 1], runs[i] end
  end
  if beyond and #runs > 1 then low, high = first, last end
  local function along(value)
    local slope = (high[value] - low[value]) / (high[1] - low[1])
    if not beyond then return low[value] + slope * (units - low[1]) end
    slope = math.max(0, math.min(slope, last[value] / last[1]))
    return last[value] + slope * (units - last[1])
  end
  return along(2), along(3), units <= REACH * last[1]
end

-- The fair order -----------------------------------------------------------------------------------

local function level(job)
  return job.priority .. ':' .. job.model
end

local function queue_key(job)
  return key('queue', job.priority, job.owner, job.model)
end

-- What a returning owner starts at, at the least.
local function lowest_time(job)
  local first = call('ZRANGE', key('order', level(job)), 0, 0, 'WITHSCORES')
  return tonumber(first[2] or call('GET', key('floor', level(job))) or 0)
end

local function enqueue(job, least_time)
  local order, times = key('order', level(job)), key('times', level(job))
  call('ZADD', queue_key(job), job.created_at, job.id)
  call('ZADD', key('levels', job.model), job.priority, job.priority)
  if call('ZSCORE', order, job.owner) then return end
  local own = tonumber(call('ZSCORE', times, job.owner) or 0)
  call('ZADD', order, math.max(own, least_time), job.owner)
  call('ZREM', times, job.owner)
end

local function dequeue(job)
  local order, times = key('order', level(job)), key('times', level(job))
  if call('ZREM', queue_key(job), job.id) == 0 then return end
  if call('EXISTS', queue_key(job)) == 1 then return end
  call('ZADD', times, call('ZSCORE', order, job.owner), job.owner)
  call('ZREMRANGEBYRANK', times, 0, -REMEMBERED_OWNERS - 1)
  call('ZREM', order, job.owner)
  if call('EXISTS', order) == 0 then call('ZREM', key('levels', job.model), job.priority) end
end

local function add_time(job, seconds)
  local order = key('order', level(job))
  local waits = call('ZSCORE', order, job.owner)
  call('ZINCRBY', waits and order or key('times', level(job)), seconds, job.owner)
end

-- Released ones run as soon as they are claimed.
local function at_its_limit(owner)
  local most = tonumber(call('HGET', key('key', owner), 'max_running'))
  if not most then return false end
  local runs = tonumber(call('HGET', key('tally', owner), 'running') or 0)
  for _, id in ipairs(call('HKEYS', key('released'))) do
    if call('HGET', key('job', id), 'owner') == owner then runs = runs + 1 end
  end
  return runs >= most
end

-- The first in the order whose key lets one more job of it run.
local function next_owner(model)
  for _, priority in ipairs(call('ZREVRANGE', key('levels', model), 0, -1)) do
    local order, place = key('order', priority, model), 0
    local entry = call('ZRANGE', order, 0, 0, 'WITHSCORES')
    while entry[1] do
      if not at_its_limit(entry[1]) then return priority, entry[1], tonumber(entry[2]) end
      place = place + 1
      entry = call('ZRANGE', order, place, place, 'WITHSCORES')
    end
  end
end

-- Replace the estimate, charged at release, by what it really was: once, then `charge` is gone.
local function settle(job, seconds)
  if not job.charge then return end
  add_time(job, seconds - tonumber(job.charge))
  erase(job, 'charge')
  job.charge = false
end

-- Where a live job stands, for its owner: place among the owner's waiting jobs ('' when it does not
-- wait), owners that wait at its level, seconds that all of it takes ('' when nobody can tell).
local function standing(job)
  local place = call('ZRANK', queue_key(job), job.id)
  local owners = call('ZCARD', key('order', level(job)))
  local _, took_s, known = expected(job.model, tonumber(job.units))
  return {place and tostring(place + 1) or '', tostring(owners), known and tostring(took_s) or ''}
end

-- A release that nobody claimed: as if it had not been.
local function put_back(job)
  call('HDEL', key('released'), job.id)
  settle(job, 0)
  enqueue(job, 0)
end

-- Ends -----------------------------------------------------------------------------------------------

-- Tell of the state that the job has come to, where the client wants that.
local function notify(job, now)
  if not job.webhook_url then return end
  if job.webhook_events then
    if not string.find(job.webhook_events, '"' .. job.state .. '"', 1, true) then return end
  elseif job.state == 'in_progress' then
    return
  end
  local event = 'evt_' .. job.id .. '_' .. job.state
  local record, flat = {}, whole(job.id)
  for i = 1, #flat, 2 do record[flat[i]] = flat[i + 1] end
  call('HSET', key('hook', event), 'event', event, 'url', job.webhook_url, 'created_at', now,
    'attempt', 0, 'job', job.id, 'owner', job.owner, 'status', 'pending',
    'record', cjson.encode(record))
  call('RPUSH', key('hooks', job.id), event)
  call('ZADD', key('outbox'), now, event)
end

local function gone_key(owner, url)
  return key('gone', owner, redis.sha1hex(url))
end

local function drop_hook(event)
  call('ZREM', key('outbox'), event)
  call('DEL', key('hook', event), key('tries', event))
end

-- One event's delivery as it stands: {hash, deliveries, due time or ''}.
local function delivery(event)
  local hook = key('hook', event)
  local shown = {'event', 'url', 'created_at', 'status'}
  local due = call('ZSCORE', key('outbox'), event)
  return {call('HMGET', hook, unpack(shown)), call('LRANGE', key('tries', event), 0, -1), due or ''}
end

-- The event is delivered or given up. Of a job that is no more nothing is kept.
local function settle_hook(event, job_id, status)
  if call('EXISTS', key('job', job_id)) == 0 then return drop_hook(event) end
  call('ZREM', key('outbox'), event)
  call('HSET', key('hook', event), 'status', status)
end

local function finish(job, state, now)
  local expires_at = now + tonumber(job.retention_s or RETENTION_S)
  write(job, {state = state, completed_at = now, expires_at = expires_at})
  call('ZADD', key('expiry'), expires_at, job.id)
  call('ZREM', key('deadlines'), job.id)
  tally(job, 'estimate', -tonumber(job.estimate or 0))
  count('jobs ' .. state .. ' ' .. job.model)
  -- Whoever stored a checkpoint and could not point to it, dead or cut off from here, has told nobody.
  if tonumber(job.attempt) > 0 then
    call('ZADD', key('sweep'), now + SWEEP_GRACE_S, job.id .. '/checkpoints/')
    erase(job, 'checkpoint')
  end
  notify(job, now)
  tell(job)
  wake()
end

local function requeue(job)
  write(job, {state = 'queued', fence = '', worker = '', beat = 0})
  erase(job, 'progress')
  count_queued(job, 1)
  enqueue(job, lowest_time(job))
  tell(job)
  wake()
end

local function holds(job, fence)
  return job and job.state == 'in_progress' and job.fence == fence
end

local function device_seconds(job, now)
  return math.max(0, now - tonumber(job.started_at)) * tonumber(job.gang_size or 1)
end

-- One try of a job: an old one may still be leaving its worker when that worker has the next.
local function attempt_of(id, fence)
  return id .. '/' .. fence
end

-- The attempt is over: its cost is settled, its files are swept unless committed, it makes room no more.
local function end_attempt(job, now, seconds)
  local attempt = attempt_of(job.id, job.fence)
  settle(job, seconds)
  spend(job, seconds, now)
  tally(job, 'running', -1)
  call('HDEL', key('running'), job.id)
  if call('HGET', key('preempting'), job.model) == attempt then
    call('HDEL', key('preempting'), job.model)
  end
  call('ZADD', key('sweep'), now + SWEEP_GRACE_S, attempt .. '/')
end

local function free_gang(worker, attempt)
  if call('HGET', key('gangs'), worker) == attempt then call('HDEL', key('gangs'), worker) end
end

-- The worker says so itself: neither its gang nor a slot of it is taken by this attempt any more.
local function let_go(job)
  local attempt = attempt_of(job.id, job.fence)
  call('SREM', key('held', job.worker), attempt)
  free_gang(job.worker, attempt)
end

-- redis-py may send a script twice: `ended` keeps what the first answered under this fence.
local function remember(job, event, fence, answer)
  write(job, {ended = event .. ' ' .. fence .. ' ' .. answer})
  return answer
end

local function remembered(job, event, fence)
  local head = event .. ' ' .. fence .. ' '
  if job and job.ended and string.sub(job.ended, 1, #head) == head then
    return string.sub(job.ended, #head + 1)
  end
  return false
end

-- A running job's gang is freed by its worker (gang_free), when it has really stopped.
local function cancel_live(job, now)
  if job.state == 'queued' then
    count_queued(job, -1)
    call('HDEL', key('released'), job.id)
    dequeue(job)
    settle(job, 0)
  else
    end_attempt(job, now, device_seconds(job, now))
    call('PUBLISH', key('cancels'), job.id)
  end
  finish(job, 'cancelled', now)
end

local function forget(job, sweep_at)
  call('DEL', key('job', job.id))
  for _, event in ipairs(call('LRANGE', key('hooks', job.id), 0, -1)) do
    if not call('ZSCORE', key('outbox'), event) then drop_hook(event) end
  end
  call('DEL', key('hooks', job.id))
  call('ZREM', key('owner', job.owner), job.id)
  call('ZREM', key('expiry'), job.id)
  call('ZADD', key('sweep'), sweep_at, job.id .. '/')
end
