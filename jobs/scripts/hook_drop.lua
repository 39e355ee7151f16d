-- Delivered, or given up. (event)
call('ZREM', key('outbox'), ARGV[3])
return call('DEL', key('hook', ARGV[3]))
