-- What time is it? The database's clock, moved by the session setting tasker_core.clock_offset (an interval),
-- which tests set. Called once by each function that needs the time.

create function tasker_core_v1.current_time() returns timestamptz
language sql volatile as $$
  select case coalesce(current_setting('tasker_core.clock_offset', true), '')
    when '' then clock_timestamp()
    else clock_timestamp() + current_setting('tasker_core.clock_offset')::interval
  end;
$$;
