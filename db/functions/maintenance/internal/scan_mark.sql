-- Returns the marks that save_scan_mark stored, at which this session begins its scan of a table, or null when a full
-- scan is due. One expression, so that PostgreSQL inlines it.

create function tasker_core_v1.scan_mark(p_table regclass) returns jsonb
language sql volatile as $$
  select case
    when (nullif(current_setting('tasker_core.scan_' || p_table::oid, true), '')::jsonb->>'whole_at')::float
      > extract(epoch from clock_timestamp())
    then current_setting('tasker_core.scan_' || p_table::oid, true)::jsonb->'marks'
  end;
$$;
