-- (id, max_queued, units, model, idempotency key or '', hash of the body, the owner's max_queued or '',
-- its daily budget in device-ms or '', '1' if its input images are stored or '', field, value, ...)
-- -> {'ok', record, standing}, or the refusal: {'full'}, {'owner full'}, {'budget', left},
-- {'other body'}, {'deleted'}, {'late'}: its input images are being swept.
-- The same id again, or the same idempotency key and body, gives the record that is there.
local id, max_queued, units, model = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local once, body, own_most, budget = ARGV[7], ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10])
local with_inputs = ARGV[11] == '1'
local ONCE_S = 86400

local function accepted(job)
  return {'ok', whole(job.id), standing(job)}
end

local function submit()
  local job = read(id)
  if job then return accepted(job) end
  local fields = {}
  for i = 12, #ARGV, 2 do fields[ARGV[i]] = ARGV[i + 1] end
  local owner = fields.owner
  local once_key = key('once', owner, once)
  local before = once ~= '' and call('GET', once_key)
  if before then
    local first, its_body = string.match(before, '^(%S+) (%S+)$')
    if its_body ~= body then return {'other body'} end
    job = read(first)
    return job and accepted(job) or {'deleted'}
  end
  if tonumber(call('GET', key('queued')) or 0) >= max_queued then return {'full'} end
  if own_most and tonumber(call('HGET', key('tally', owner), 'queued') or 0) >= own_most then
    return {'owner full'}
  end
  local device_s, _, known = expected(model, tonumber(units))
  local estimate = math.ceil(1000 * (device_s or 0))
  if budget then
    local left = budget - tonumber(call('GET', spent_key(owner, unix_now())) or 0)
      - tonumber(call('HGET', key('tally', owner), 'estimate') or 0)
    if left <= 0 or (known and estimate > left) then return {'budget', tostring(math.max(0, left))} end
    estimate = math.min(estimate, left)  -- a guess refuses nobody, but holds what it can
  end
  if with_inputs then
    local due = call('ZSCORE', key('sweep'), inputs_of(id))
    if not due or tonumber(due) <= unix_now() then return {'late'} end
  end
  call('HSET', key('job', id), 'units', units, 'model', model, 'estimate', estimate, unpack(ARGV, 12))
  job = read(id)
  if once ~= '' then call('SET', once_key, id .. ' ' .. body, 'EX', ONCE_S) end
  call('ZADD', key('owner', owner), job.created_at, id)
  if fields.max_waiting_s then
    call('ZADD', key('deadlines'), unix_now() + tonumber(fields.max_waiting_s), id)
  end
  tally(job, 'estimate', estimate)
  count_queued(job, 1)
  enqueue(job, lowest_time(job))
  count('accepted ' .. model)
  wake()
  return accepted(job)
end

local answer = submit()
if with_inputs then
  if call('EXISTS', key('job', id)) == 1 then
    call('ZREM', key('sweep'), inputs_of(id))
  else
    call('ZADD', key('sweep'), 'XX', unix_now(), inputs_of(id))
  end
end
return answer
