-- What is to be done for one queue now and then: deliver what was delayed, and what nobody ended in time.
-- KEYS: stream of level 0, levels, delayed, kept. ARGV: how the names of streams begin and end, visibility in ms, most.
-- Returns the seconds until the next delayed message is due (or -1), and the levels.
local begin, rest, visibility, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local clock = now()
local levels = redis.call('SMEMBERS', KEYS[2])

local function stream_of(level)
  return begin .. level .. rest
end

-- A member is: a unique name of 16 characters, 1 if it was delivered before else 0, its level, a colon, its body.
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', clock, 'LIMIT', 0, most)) do
  local seen, level, body = string.match(member, '^' .. string.rep('.', 16) .. '(.)(%-?%d+):(.*)$')
  redis.call('XADD', stream_of(level), '*', 'b', body, 'd', seen)
  redis.call('ZREM', KEYS[3], member)
end

-- Nobody ended it in time: it becomes a new message, so that whatever its late owner does finds nothing.
local function again(stream)
  local found = redis.pcall('XAUTOCLAIM', stream, 'flowcraft', 'worker', visibility, '0-0', 'COUNT', most)
  if found.err then
    return -- there is no group yet, so nothing was delivered
  end
  for _, entry in ipairs(found[2]) do
    local id, fields = entry[1], entry[2]
    local name = stream .. id
    local kept = redis.call('ZSCORE', KEYS[4], name)
    if kept then
      local idle = math.max(0, visibility - math.floor((tonumber(kept) - clock) * 1000))
      redis.call('XCLAIM', stream, 'flowcraft', 'worker', 0, id, 'IDLE', idle, 'JUSTID')
    else
      local kind, body = fields[1], fields[2]
      if kind == 'b' then
        redis.call('XADD', stream, '*', 'b', body, 'd', '1')
      end
      redis.call('XACK', stream, 'flowcraft', id)
      redis.call('XDEL', stream, id)
    end
  end
end

redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', clock)
again(KEYS[1])
for _, level in ipairs(levels) do
  again(stream_of(level))
end

local next = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
local due = -1
if next[2] then
  due = math.max(0, tonumber(next[2]) - clock)
end
return {tostring(due), levels}
