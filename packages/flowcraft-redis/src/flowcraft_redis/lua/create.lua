-- Make a document with all that belongs to it, or say what is there under its id.
-- KEYS: head, due, listing, status, events, then values and streams.
local found = redis.call('HMGET', KEYS[1], 'f', 't')
if found[2] then
  return {found[1], found[2]}
end
local id, token, head, status, wake, updated = take(), take(), take(), take(), take(), take()
local created, fingerprint, blueprint, hash = take(), take(), take(), take()
redis.call('HSET', KEYS[1], 't', token, 'h', head, 's', status, 'w', wake, 'u', updated, 'c', created,
  'f', fingerprint, 'b', blueprint, 'B', hash)
if wake ~= '' then
  redis.call('ZADD', KEYS[2], wake, id)
end
redis.call('ZADD', KEYS[3], created, id)
redis.call('ZADD', KEYS[3] .. ':s:' .. status, created, id)
if blueprint ~= '' then
  redis.call('ZADD', KEYS[3] .. ':b:' .. blueprint, created, id)
end
redis.call('SET', KEYS[4], status)
groups('HSET')
local events = number()
sliced('RPUSH', KEYS[5], ARGV, at + 1, events)
at = at + events
push()
return false
