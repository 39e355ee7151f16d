-- (id, owner or '')... -> for each {record as JSON, standing} for its owner, or false.
-- Clients poll this: the hash is read once, crosses as one string instead of sixty, and only what is
-- live is looked for in the order.
local function look(id, owner)
  local flat = whole(id)
  if #flat == 0 then return false end
  local job = {}
  for i = 1, #flat, 2 do job[flat[i]] = flat[i + 1] end
  if owner ~= '' and job.owner ~= owner then return false end
  local text = cjson.encode(job)
  if job.state ~= 'queued' and job.state ~= 'in_progress' then return {text, {'', '0', ''}} end
  return {text, standing(job)}
end

local found = {}
for i = 3, #ARGV, 2 do found[#found + 1] = look(ARGV[i], ARGV[i + 1]) end
return found
