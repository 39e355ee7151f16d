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

while unclaimed < free do
  local priority, owner, time = next_owner(model)
  if not priority then break end
  local id = call('ZRANGE', key('queue', priority, owner, model), 0, 0)[1]
  local job = read(id)
  local floor = key('floor', level(job))
  call('SET', floor, math.max(time, tonumber(call('GET', floor) or time)))
  local charge = expected(model, tonumber(job.units)) or tonumber(job.units)
  add_time(job, charge)
  dequeue(job)
  write(job, {release = tonumber(job.release) + 1, charge = charge})
  call('HSET', key('released'), id, job.release .. ' ' .. model)
  unclaimed = unclaimed + 1
end
return call('HGETALL', key('released'))
