-- (limit) -> {member, score, ...} of files to delete now.
return call('ZRANGEBYSCORE', key('sweep'), '-inf', unix_now(), 'WITHSCORES', 'LIMIT', 0, ARGV[3])
