-- Take a token from a bucket, which is kept as the time at which it is full. KEYS: the bucket.
-- ARGV: seconds from one token to the next, most tokens saved up. Returns the seconds to wait, 0 if it was there.
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = now()
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or clock), clock)
local wait = full + interval - clock - interval * burst
-- A caller that waited as told must not be sent away for the last bit of a float.
if wait > 0.000001 * interval then
  return string.format('%.17g', wait)
end
full = full + interval
redis.call('SET', KEYS[1], string.format('%.17g', full), 'PX', math.ceil((full - clock) * 1000) + 1)
return '0'
