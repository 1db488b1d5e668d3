-- The lowest UUID version 7 of a millisecond: as uuids of tasks are made from the time of their creation, the index on
-- them answers which tasks were created since, or before, a time.

create function tasker_core_v1.uuid_v7_floor(p_at timestamptz) returns uuid
language sql immutable as $$
  select (lpad(to_hex((extract(epoch from p_at) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid;
$$;
