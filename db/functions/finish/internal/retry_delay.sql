-- How long does a step wait before its next attempt, after p_attempt attempts? The only place of the rule:
--   exponential  base * factor^(attempt - 1)      linear  base * attempt      fixed  base      none  0
-- capped, then spread by plus or minus jitter (a share, 0.1 = ten per cent). Called by finish_steps.

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
