-- Take or renew one of some slots. KEYS: a sorted set of holders by the end of their time. ARGV: holder, limit, ttl.
local key, holder, ttl = KEYS[1], ARGV[1], tonumber(ARGV[3])
local clock = now()
redis.call('ZREMRANGEBYSCORE', key, '-inf', clock)
if not redis.call('ZSCORE', key, holder) and redis.call('ZCARD', key) >= tonumber(ARGV[2]) then
  return 0
end
redis.call('ZADD', key, clock + ttl, holder)
local last = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2]
redis.call('PEXPIREAT', key, math.ceil(tonumber(last) * 1000) + 1000)
return 1
