-- (id): input images of a job to come are about to be stored. submit strikes this out; if it never does,
-- they are swept.
local UPLOAD_S = 900
call('ZADD', key('sweep'), unix_now() + UPLOAD_S, inputs_of(ARGV[3]))
return 1
