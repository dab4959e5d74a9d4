-- Remove a document with everything, if it still has this token: 1, it is gone; 0, it has another one.
-- KEYS: head, due, listing, status, events, then whatever else it may have. ARGV: token, id.
local found = redis.call('HMGET', KEYS[1], 't', 's', 'b')
if not found[1] then
  return 1
end
if found[1] ~= ARGV[1] then
  return 0
end
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('ZREM', KEYS[3], ARGV[2])
redis.call('ZREM', KEYS[3] .. ':s:' .. found[2], ARGV[2])
redis.call('ZREM', KEYS[3] .. ':b:' .. found[3], ARGV[2])
redis.call('UNLINK', unpack(KEYS, 4))
redis.call('DEL', KEYS[1])
return 1
