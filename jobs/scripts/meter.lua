-- () -> {counts, {model, priority, waiting, created_at of the oldest}, ...}
local found = {call('HGETALL', key('counts'))}
for _, model in ipairs(call('HKEYS', key('models'))) do
  for _, priority in ipairs(call('ZRANGE', key('levels', model), 0, -1)) do
    local waiting, oldest = 0, nil
    for _, owner in ipairs(call('ZRANGE', key('order', priority, model), 0, -1)) do
      local queue = key('queue', priority, owner, model)
      waiting = waiting + call('ZCARD', queue)
      local first = tonumber(call('ZRANGE', queue, 0, 0, 'WITHSCORES')[2])
      if first and (not oldest or first < oldest) then oldest = first end
    end
    found[#found + 1] = {model, priority, tostring(waiting), tostring(oldest or 0)}
  end
end
return found
