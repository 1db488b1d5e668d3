-- Returns the database's clock, moved by the session setting tasker_core.clock_offset (an interval), which tests set.
-- Each function that needs the time calls it once.

create function tasker_core_v1.current_time() returns timestamptz
language sql volatile as $$
  select case coalesce(current_setting('tasker_core.clock_offset', true), '')
    when '' then clock_timestamp()
    else clock_timestamp() + current_setting('tasker_core.clock_offset')::interval
  end;
$$;
