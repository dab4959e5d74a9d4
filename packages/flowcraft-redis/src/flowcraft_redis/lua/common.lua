-- What several scripts need. It is put in front of them, so everything here is local.

-- unpack puts its results on a stack of 8,000 places.
local SLICE = 4000

-- Run a command on KEY with the arguments FROM .. FROM + COUNT - 1 of LIST, a slice at a time.
local function sliced(command, key, list, from, count)
  local last = from + count - 1
  while from <= last do
    local to = math.min(from + SLICE - 1, last)
    redis.call(command, key, unpack(list, from, to))
    from = to + 1
  end
end

-- Where the arguments are read. `take` returns the next one.
local at = 0
local function take()
  at = at + 1
  return ARGV[at]
end

local function number()
  return tonumber(take())
end

-- Groups of arguments, each for one key: how many, and for each its key's number, how many, and they themselves.
local function groups(command)
  for _ = 1, number() do
    local key = KEYS[number()]
    local count = number()
    sliced(command, key, ARGV, at + 1, count)
    at = at + count
  end
end

-- Put a message into a stream. A level that the queue never had is made known by a knock on its stream of level 0,
-- which wakes somebody who listens only there.
local function announce()
  for _ = 1, number() do
    local levels, level, base = KEYS[number()], take(), KEYS[number()]
    if redis.call('SADD', levels, level) == 1 then
      redis.call('XADD', base, '*', 'k', '1')
    end
  end
end

local function push()
  announce()
  for _ = 1, number() do
    local stream = KEYS[number()]
    redis.call('XADD', stream, '*', 'b', take())
  end
end

-- Remove messages that were delivered: their stream's number, how many, and their ids.
local function settle()
  for _ = 1, number() do
    local stream, count = KEYS[number()], number()
    local last = at + count
    while at < last do
      local to = math.min(at + SLICE, last)
      redis.call('XACK', stream, 'flowcraft', unpack(ARGV, at + 1, to))
      redis.call('XDEL', stream, unpack(ARGV, at + 1, to))
      at = to
    end
  end
end

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end
