-- (id, fence, base64 of a WebP) -> 1, or 0: refused. It is gone by itself: no end of an attempt waits for it.
local PREVIEW_S = 60
local id, fence, image = ARGV[3], ARGV[4], ARGV[5]
local job = read(id)
if not holds(job, fence) then return 0 end
call('SET', key('preview', id), fence .. ' ' .. image, 'EX', PREVIEW_S)
tell(job)
return 1
