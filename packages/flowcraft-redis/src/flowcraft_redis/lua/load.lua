-- A document and some of its values, as of one moment. KEYS: head, then hashes of values. ARGV: groups of fields.
local found = {redis.call('HMGET', KEYS[1], 't', 'h', 's', 'w', 'u', 'f')}
for _ = 1, number() do
  local key, count = KEYS[number()], number()
  local last = at + count
  while at < last do
    local to = math.min(at + SLICE, last)
    for _, value in ipairs(redis.call('HMGET', key, unpack(ARGV, at + 1, to))) do
      found[#found + 1] = value
    end
    at = to
  end
end
return found
