-- Returns the delay before the next attempt, after p_attempt attempts. The only implementation of the retry policy:
--   exponential  base * factor^(attempt - 1)      linear  base * attempt      fixed  base      none  0
-- capped, then varied at random by plus or minus the jitter (0.1 is 10 %). Called by finish_steps and ack_events.

create function tasker_core_v1.retry_delay(
  p_backoff text,
  p_attempt integer,
  p_base_ms integer,
  p_factor float,
  p_cap_ms integer,
  p_jitter float
) returns interval
language sql volatile as $$
  select make_interval(secs =>
    least(
      p_cap_ms,
      case p_backoff
        when 'none' then 0
        when 'fixed' then p_base_ms
        when 'linear' then p_base_ms::float * p_attempt
        -- The exponent is bounded where any base above zero has long passed any cap: no overflow.
        when 'exponential' then p_base_ms * p_factor ^ least(p_attempt - 1, 100 / nullif(ln(p_factor), 0))
      end
    ) * (1 + p_jitter * (2 * random() - 1)) / 1000.0);
$$;
