-- Members of a sorted set that come after a member with a score, which may have moved or gone meanwhile. Its place is
-- found by putting it there for a moment: walking could take for ever where many have one score.
-- KEYS: the set. ARGV: score, member, how many, 1 for backwards.
local key, member, backwards = KEYS[1], ARGV[2], ARGV[4] == '1'
local score, limit = tonumber(ARGV[1]), tonumber(ARGV[3])
local stored = redis.call('ZSCORE', key, member)
local there = stored and tonumber(stored) == score
if not there then
  redis.call('ZADD', key, ARGV[1], member)
end
local from = redis.call(backwards and 'ZREVRANK' or 'ZRANK', key, member) + 1
if not there then
  if stored then
    redis.call('ZADD', key, stored, member)
  else
    redis.call('ZREM', key, member)
  end
  local behind = stored and (tonumber(stored) < score) ~= backwards
  if not behind then
    from = from - 1
  end
end
return redis.call(backwards and 'ZREVRANGE' or 'ZRANGE', key, from, from + limit - 1)
