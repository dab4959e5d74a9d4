-- Messages of several streams, in the order in which they are given. KEYS: streams. ARGV: how many at most.
-- Returns text if a stream has no group.
local room, found = tonumber(ARGV[1]), {}
for _, stream in ipairs(KEYS) do
  if room > 0 then
    local read = redis.pcall('XREADGROUP', 'GROUP', 'flowcraft', 'worker', 'COUNT', room, 'STREAMS', stream, '>')
    if read and read.err then
      return #found > 0 and found or 'NOGROUP'
    end
    if read then
      found[#found + 1] = read[1]
      room = room - #read[1][2]
    end
  end
end
return found
