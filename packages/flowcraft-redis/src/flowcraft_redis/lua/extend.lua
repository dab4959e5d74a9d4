-- Keep messages in hand. KEYS: stream, kept. ARGV: visibility in ms, seconds, ids.
local visibility, seconds = tonumber(ARGV[1]), tonumber(ARGV[2])
local idle = math.max(0, visibility - math.floor(seconds * 1000))
for n = 3, #ARGV do
  local mine = redis.call('XCLAIM', KEYS[1], 'flowcraft', 'worker', 0, ARGV[n], 'IDLE', idle, 'JUSTID')
  if seconds * 1000 > visibility and #mine > 0 then
    redis.call('ZADD', KEYS[2], now() + seconds, KEYS[1] .. ARGV[n])
  end
end
return redis.status_reply('OK')
