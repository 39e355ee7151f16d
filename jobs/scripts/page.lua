-- (owner, after or '', its time, limit, 'asc' or 'desc', kind or '', state or '', model or '',
-- created_after or '', created_before or '')
-- -> {job to go on behind or '', {record, standing}, ...} of the owner's jobs after that one.
-- One call looks at SCAN jobs at most, so that a filter that fits nothing holds up nobody.
local index, after, limit = key('owner', ARGV[3]), ARGV[4], tonumber(ARGV[6])
local kind, state, model = ARGV[8], ARGV[9], ARGV[10]
local since, until_ = tonumber(ARGV[11]), tonumber(ARGV[12])
local SCAN = 500
local rank, range, from, to = 'ZREVRANK', 'ZREVRANGE', '(' .. ARGV[5], '+inf'
if ARGV[7] == 'asc' then
  rank, range, from, to = 'ZRANK', 'ZRANGE', '-inf', '(' .. ARGV[5]
end
local start = 0
if after ~= '' then
  local place = call(rank, index, after)
  -- Deleted meanwhile: go on by its time.
  start = place and place + 1 or call('ZCOUNT', index, from, to)
elseif ARGV[7] == 'asc' and since then
  start = call('ZCOUNT', index, '-inf', since)
elseif ARGV[7] ~= 'asc' and until_ then
  start = call('ZCOUNT', index, until_, '+inf')
end

local function fits(job)
  if kind ~= '' and string.sub(job.id, 1, #kind + 1) ~= kind .. '_' then return false end
  if state ~= '' and job.state ~= state then return false end
  if model ~= '' and job.model ~= model then return false end
  local at = tonumber(job.created_at)
  return (not since or at > since) and (not until_ or at < until_)
end

local found = {''}
local ids = call(range, index, start, start + SCAN - 1)
for _, id in ipairs(ids) do
  local job = read(id)
  local at = tonumber(job.created_at)
  -- Beyond the range nothing follows that is in it.
  if ARGV[7] == 'asc' and until_ and at >= until_ then return found end
  if ARGV[7] ~= 'asc' and since and at <= since then return found end
  if fits(job) then
    found[#found + 1] = {whole(id), standing(job)}
    if #found > limit then return found end
  end
end
if #ids == SCAN then found[1] = ids[#ids] end
return found
