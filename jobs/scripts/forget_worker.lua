-- Drop what a worker left whose announcement has run out. (worker) -> 1 when it was dropped.
-- Not while it holds running jobs: it may only have been cut off, and its gang is busy with them.
-- A drain stays: a worker that was only paused or cut off comes back under the same id.
local worker = ARGV[3]
if call('EXISTS', key('worker', worker)) == 1 then return 0 end
for _, attempt in ipairs(call('SMEMBERS', key('held', worker))) do
  local id, fence = string.match(attempt, '^([^/]+)/?(.*)$')
  if holds(read(id), fence) then return 0 end
end
call('SREM', key('workers'), worker)
call('HDEL', key('gangs'), worker)
call('DEL', key('held', worker))
wake()
return 1
