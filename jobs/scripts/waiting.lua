-- () -> {{model, priority, owner, waiting jobs, id of the oldest, its created_at}, ...}
local found = {}
for _, model in ipairs(call('HKEYS', key('models'))) do
  for _, priority in ipairs(call('ZREVRANGE', key('levels', model), 0, -1)) do
    for _, owner in ipairs(call('ZRANGE', key('order', priority, model), 0, -1)) do
      local queue = key('queue', priority, owner, model)
      local first = call('ZRANGE', queue, 0, 0, 'WITHSCORES')
      found[#found + 1] = {model, priority, owner, tostring(call('ZCARD', queue)), first[1], first[2]}
    end
  end
end
return found
