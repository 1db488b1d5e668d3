-- Which tasks fit a filter? Newest first, from before p_before (a task's uuid, or null for the newest), p_limit at most.
-- Answers {task_ids, next}: `next` is the p_before of the page that follows, or null when there is none.
-- It looks at p_look tasks at most, so that a filter that hardly any task fits costs no more than another: such a page may
-- have fewer tasks than it could, or none, and still a `next`. Called by lists of the API, command line and pages.
--
-- The filter's keys, each of which may be missing: states (as people see them), namespace, workflow, version, tags (all of
-- them), since, until (of creation), correlation_id (the task's own or its parent's is not looked at), input (what the input
-- contains).
-- Indexes: tasks by uuid, which is in the order of creation; by workflow version and uuid; by correlation id.

create function tasker_core_v1.find_tasks(p_filter jsonb, p_before uuid, p_limit integer, p_look integer) returns json
language plpgsql stable as $$
declare
  v_states text[] := array(select jsonb_array_elements_text(p_filter->'states'));
  v_tags text[] := array(select jsonb_array_elements_text(p_filter->'tags'));
  v_input jsonb := p_filter->'input';
  v_correlation uuid := p_filter->>'correlation_id';
  v_since uuid := coalesce(
    tasker_core_v1.uuid_v7_floor((p_filter->>'since')::timestamptz), '00000000-0000-0000-0000-000000000000');
  v_before uuid := least(p_before, tasker_core_v1.uuid_v7_floor((p_filter->>'until')::timestamptz),
    'ffffffff-ffff-ffff-ffff-ffffffffffff');
  v_versions bigint[];
  v_answer json;
begin
  if p_filter ?| array['namespace', 'workflow', 'version'] then
    v_versions := array(
      select id
      from tasker_workflow_versions
      where (p_filter->>'namespace' is null or namespace = p_filter->>'namespace')
        and (p_filter->>'workflow' is null or name = p_filter->>'workflow')
        and (p_filter->>'version' is null or version = p_filter->>'version'));
  end if;

  with looked_at as materialized (
    (
      select t.id, t.uuid, t.state, t.tags, t.workflow_version_id
      from tasker_tasks t
      where v_correlation is null and v_versions is null
        and t.uuid >= v_since and t.uuid < v_before
      order by t.uuid desc
      limit p_look
    )
    union all
    (
      select t.*
      from unnest(v_versions) as version(id)
      cross join lateral (
        select t.id, t.uuid, t.state, t.tags, t.workflow_version_id
        from tasker_tasks t
        where t.workflow_version_id = version.id
          and t.uuid >= v_since and t.uuid < v_before
        order by t.uuid desc
        limit p_look
      ) as t
      where v_correlation is null
      order by t.uuid desc
      limit p_look
    )
    union all
    (
      select t.id, t.uuid, t.state, t.tags, t.workflow_version_id
      from tasker_tasks t
      where t.correlation_id = v_correlation
        and t.uuid >= v_since and t.uuid < v_before
        and (v_versions is null or t.workflow_version_id = any(v_versions))
      order by t.uuid desc
      limit p_look
    )
  ), found as (
    select t.id, t.uuid
    from looked_at t
    where t.tags @> v_tags
      and (v_states = '{}'
        or t.state <> 'pending' and t.state = any(v_states)
        or t.state = 'pending' and v_states @> array['pending', 'in_progress']
        or t.state = 'pending' and v_states && array['pending', 'in_progress']
          and (tasker_core_v1.has_begun(t.id) = ('in_progress' = any(v_states))))
      and (v_input is null or exists (
        select
        from tasker_task_inputs i
        where i.task_id = t.id and i.input @> v_input))
    order by t.uuid desc
    limit p_limit
  ), reached as (
    select
      (select count(*) from found) as fitting,
      (select count(*) from looked_at) as seen,
      (select uuid from found order by uuid limit 1) as last_fitting,
      (select uuid from looked_at order by uuid limit 1) as last_seen
  )
  select json_build_object(
    'task_ids', array(select id from found order by uuid desc),
    'next', case
      when fitting = p_limit and (last_fitting <> last_seen or seen = p_look) then last_fitting
      when fitting < p_limit and seen = p_look then last_seen
    end)
  into v_answer
  from reached;

  return v_answer;
end
$$;
