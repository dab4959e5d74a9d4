-- One change of one document, if it still has the version that the change was planned on; else what is stored.
-- KEYS: head, due, listing, status, events, then values and streams.
local old = redis.call('HMGET', KEYS[1], 't', 's', 'w')
if not old[1] then
  return 0
end
if old[1] ~= take() then
  return redis.call('HMGET', KEYS[1], 't', 'h', 's', 'w', 'u', 'f')
end
local id, token, head, status, wake, updated = take(), take(), take(), take(), take(), take()
local moved, blueprint, hash = take(), take(), take()
redis.call('HSET', KEYS[1], 't', token, 'h', head, 's', status, 'w', wake, 'u', updated)
if wake ~= old[3] then
  if wake == '' then
    redis.call('ZREM', KEYS[2], id)
  else
    redis.call('ZADD', KEYS[2], wake, id)
  end
end
if status ~= old[2] or moved == '1' then
  local rest = redis.call('HMGET', KEYS[1], 'c', 'b')
  if status ~= old[2] then
    redis.call('ZREM', KEYS[3] .. ':s:' .. old[2], id)
    redis.call('ZADD', KEYS[3] .. ':s:' .. status, rest[1], id)
    redis.call('SET', KEYS[4], status)
  end
  if moved == '1' then
    redis.call('ZREM', KEYS[3] .. ':b:' .. rest[2], id)
    redis.call('ZADD', KEYS[3] .. ':b:' .. blueprint, rest[1], id)
    redis.call('HSET', KEYS[1], 'b', blueprint, 'B', hash)
  end
end
groups('HDEL')
groups('HSET')
local events = number()
sliced('RPUSH', KEYS[5], ARGV, at + 1, events)
at = at + events
push()
settle()
return 1
