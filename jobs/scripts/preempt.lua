-- Ask a running job's worker to hand it back for one of higher priority that is next to run.
-- (lead token, id, fence) -> 1: asked; 0: not called for, or asked before; 'not leading'.
-- One job of a model at a time: whoever was asked and has not handed back yet makes room already.
local token, id, fence = ARGV[3], ARGV[4], ARGV[5]
if call('GET', key('lead')) ~= token then return 'not leading' end
local job = read(id)
if not holds(job, fence) then return 0 end
if job.preempt == fence then return 0 end
local asked = call('HGET', key('preempting'), job.model)
if asked then
  local other, its_fence = string.match(asked, '^([^/]+)/(.*)$')
  if holds(read(other), its_fence) then return 0 end
end
for _, release in ipairs(call('HVALS', key('released'))) do
  if string.match(release, '^%d+ (.*)$') == job.model then return 0 end
end
local priority = next_owner(job.model)
if not priority or tonumber(priority) <= tonumber(job.priority) then return 0 end
write(job, {preempt = fence})
call('HSET', key('preempting'), job.model, attempt_of(id, fence))
call('PUBLISH', key('cancels'), id)
count('preemptions ' .. job.model)
return 1
