-- (lead token, model, free gangs) -> {id, "<release> <model>", ...}: every unclaimed release;
-- false when the lead is lost. Releases until the model has as many unclaimed ones as free gangs, so
-- that a script sent twice releases nothing more.
local token, model, free = ARGV[3], ARGV[4], tonumber(ARGV[5])
if call('GET', key('lead')) ~= token then return false end
local released = call('HGETALL', key('released'))
local unclaimed = 0
for i = 2, #released, 2 do
  if string.match(released[i], '^%d+ (.*)$') == model then unclaimed = unclaimed + 1 end
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
local function next_owner()
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

while unclaimed < free do
  local priority, owner, time = next_owner()
  if not priority then break end
  local id = call('ZRANGE', key('queue', priority, owner, model), 0, 0)[1]
  local job = read(id)
  local floor = key('floor', level(job))
  call('SET', floor, math.max(time, tonumber(call('GET', floor) or time)))
  local charge = tonumber(job.units) * tonumber(call('GET', key('rate', model)) or 1)
  add_time(job, charge)
  dequeue(job)
  write(job, {release = tonumber(job.release) + 1, charge = charge})
  call('HSET', key('released'), id, job.release .. ' ' .. model)
  unclaimed = unclaimed + 1
end
return call('HGETALL', key('released'))
