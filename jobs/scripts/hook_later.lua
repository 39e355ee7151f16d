-- Try an event again. (event, attempts made, delay in seconds)
if call('EXISTS', key('hook', ARGV[3])) == 0 then return 0 end
call('HSET', key('hook', ARGV[3]), 'attempt', ARGV[4])
call('ZADD', key('outbox'), unix_now() + ARGV[5], ARGV[3])
return 1
