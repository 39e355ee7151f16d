-- (member): the artifact store does not answer; the others first.
call('ZADD', key('sweep'), 'XX', unix_now() + SWEEP_GRACE_S, ARGV[3])
return 1
