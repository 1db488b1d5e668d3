-- Returns {task_ids, next}: up to p_limit tasks that match a filter, newest first, created before p_before (a uuid;
-- null for the newest). `next` is the p_before of the next page, or null. When the database cannot read tags or an
-- input that the filter needs, such tasks count as matching, and are named in unreadable: {task id: ["tags",
-- "input"]}. Called for lists in the API, command line and pages.
--
-- p_filter has any of: states and statuses (as in task_execution_contexts), namespace, workflow, version, tags (all of
-- them), since and until (of creation), correlation_id (of the task itself), input (that the task's input contains).
-- p_scan_limit: how many tasks to read at most, so that a filter that few tasks match costs no more than another.
-- Such a page may have fewer than p_limit tasks, or none, and still a `next`.
--
-- Reads as many tasks as fit on the page, and one more to know whether there is a next page. While too few match, it
-- reads four times as many of the next ones. Two columns are compared and sorted as a row, as only the index of both
-- gives that order; otherwise the planner scans by uuid, and reads all tasks for a workflow that has few.
-- Indexes: tasks by uuid, which is in the order of creation; by workflow version and uuid; by correlation id and uuid.
--
-- Reads tags and inputs only for a filter by them. After an error of a row, checks the same tasks one by one
-- (fits_if_readable).

create function tasker_core_v1.find_tasks(p_filter jsonb, p_before uuid, p_limit integer, p_scan_limit integer)
returns json
language plpgsql stable as $$
declare
  v_states text[] := array(select jsonb_array_elements_text(p_filter->'states'));
  v_statuses text[] := array(select jsonb_array_elements_text(p_filter->'statuses'));
  v_tags text[] := array(select jsonb_array_elements_text(p_filter->'tags'));
  v_input jsonb := p_filter->'input';
  v_correlation uuid := p_filter->>'correlation_id';
  v_since uuid := coalesce(
    tasker_core_v1.uuid_v7_floor((p_filter->>'since')::timestamptz), '00000000-0000-0000-0000-000000000000');
  v_before uuid := least(p_before, tasker_core_v1.uuid_v7_floor((p_filter->>'until')::timestamptz),
    'ffffffff-ffff-ffff-ffff-ffffffffffff');
  -- The stored states in which a task can have one of the statuses.
  v_stored text[] := array(
    select distinct unnest(
      case status
        when 'all_complete' then array['complete']
        when 'cancelled' then array['cancelled']
        when 'resolved_manually' then array['resolved_manually']
        when 'blocked_by_failures' then array['pending', 'error']
        else array['pending']
      end)
    from unnest(v_statuses) as status);
  v_versions bigint[];
  v_left integer := p_scan_limit;
  v_scan integer := least(p_scan_limit, p_limit + 1);
  v_ids bigint[] := '{}';
  v_reached record;
  v_next uuid;
  v_one_by_one boolean := false;
begin
  if p_filter ?| array['namespace', 'workflow', 'version'] then
    v_versions := array(
      select id
      from tasker_workflow_versions
      where (p_filter->>'namespace' is null or namespace = p_filter->>'namespace')
        and (p_filter->>'workflow' is null or name = p_filter->>'workflow')
        and (p_filter->>'version' is null or version = p_filter->>'version'));
  end if;

  loop
    begin
      with scanned as materialized (
        (
          select t.id, t.uuid, t.state, t.tags, t.workflow_version_id
          from tasker_tasks t
          where v_correlation is null and v_versions is null
            and t.uuid >= v_since and t.uuid < v_before
          order by t.uuid desc
          limit v_scan
        )
        union all
        (
          select t.*
          from unnest(v_versions) as version(id)
          cross join lateral (
            select t.id, t.uuid, t.state, t.tags, t.workflow_version_id
            from tasker_tasks t
            where (t.workflow_version_id, t.uuid) >= (version.id, v_since)
              and (t.workflow_version_id, t.uuid) < (version.id, v_before)
            order by t.workflow_version_id desc, t.uuid desc
            limit v_scan
          ) as t
          where v_correlation is null
          order by t.uuid desc
          limit v_scan
        )
        union all
        (
          select t.id, t.uuid, t.state, t.tags, t.workflow_version_id
          from tasker_tasks t
          where (t.correlation_id, t.uuid) >= (v_correlation, v_since)
            and (t.correlation_id, t.uuid) < (v_correlation, v_before)
          order by t.correlation_id desc, t.uuid desc
          limit v_scan
        )
      ), fitting as materialized (
        select t.id, t.uuid
        from scanned t
        where (v_tags = '{}' or v_one_by_one or t.tags @> v_tags)
          and (v_versions is null or t.workflow_version_id = any(v_versions))
          and (v_states = '{}'
            or t.state <> 'pending' and t.state = any(v_states)
            or t.state = 'pending' and v_states @> array['pending', 'in_progress']
            or t.state = 'pending' and v_states && array['pending', 'in_progress']
              and ('in_progress' = any(v_states)) = (
                exists (
                  select
                  from tasker_workflow_steps s
                  where s.task_id = t.id and (s.attempts > 0 or s.state in ('complete', 'resolved_manually')))
                or t.id in (select task_id from tasker_claimed_steps)))
          and (v_input is null or v_one_by_one or exists (
            select
            from tasker_task_inputs i
            where i.task_id = t.id and i.input @> v_input))
          and (not v_one_by_one or (tasker_core_v1.fits_if_readable(t.id, v_tags, v_input)).fits)
          and (v_statuses = '{}' or t.state = any(v_stored))
      ), found as (
        select t.id, t.uuid
        from fitting t
        where v_statuses = '{}'
          or t.id = any((select tasker_core_v1.tasks_with_status(array(select id from fitting), v_statuses))::bigint[])
        order by t.uuid desc
        limit p_limit - cardinality(v_ids)
      )
      select
        array(select id from found order by uuid desc) as ids,
        (select uuid from found order by uuid limit 1) as last_fitting,
        (select count(*) from scanned) as seen,
        (select uuid from scanned order by uuid limit 1) as last_seen
      into v_reached;
    exception
      when others then
        if v_one_by_one or (v_tags = '{}' and v_input is null)
          or tasker_core_v1.row_error(sqlstate, sqlerrm) is null then
          raise;
        end if;
        v_one_by_one := true;
        continue;
    end;

    v_ids := v_ids || v_reached.ids;
    v_left := v_left - v_reached.seen;
    if cardinality(v_ids) = p_limit then
      if v_reached.last_fitting <> v_reached.last_seen or v_reached.seen = v_scan then
        v_next := v_reached.last_fitting;
      end if;
      exit;
    elsif v_reached.seen < v_scan then
      exit;
    elsif v_left = 0 then
      v_next := v_reached.last_seen;
      exit;
    end if;
    v_before := v_reached.last_seen;
    v_scan := least(v_left, v_scan * 4);
  end loop;

  if v_one_by_one then
    return json_build_object('task_ids', v_ids, 'next', v_next, 'unreadable', (
      select coalesce(json_object_agg(id, match.unreadable), '{}')
      from unnest(v_ids) as task(id)
      cross join lateral tasker_core_v1.fits_if_readable(id, v_tags, v_input) as match
      where match.unreadable <> '{}'));
  end if;
  return json_build_object('task_ids', v_ids, 'next', v_next);
end
$$;
