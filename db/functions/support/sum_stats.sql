-- Adds up what processes measured: an array of objects with numbers, summed by key. Returns null for null.
-- Called by fold_counts and process_stats.

create function tasker_core_v1.sum_stats(p_stats jsonb) returns jsonb
language sql immutable as $$
  select jsonb_object_agg(key, total)
  from (
    select entry.key, sum(entry.value::numeric) as total
    from jsonb_array_elements(p_stats) as stats
    cross join lateral jsonb_each_text(stats) as entry
    group by entry.key
  ) as sums;
$$;
