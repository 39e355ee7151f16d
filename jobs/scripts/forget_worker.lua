-- Drop what a worker left whose announcement has run out. (worker) -> 1 when it was dropped.
local worker = ARGV[3]
if call('EXISTS', key('worker', worker)) == 1 then return 0 end
call('SREM', key('workers'), worker)
call('HDEL', key('gangs'), worker)
call('DEL', key('held', worker))
wake()
return 1
