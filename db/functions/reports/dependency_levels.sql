-- Returns the level of each step in the graph of a workflow version. Roots are on level 0, every other step is one
-- level below its deepest parent. Levels are computed when a version is compiled.

create function tasker_core_v1.dependency_levels(p_workflow_version bigint)
returns table ("position" integer, name text, level integer)
language sql stable as $$
  select d.position, d.name, d.level
  from tasker_step_definitions d
  where d.workflow_version_id = p_workflow_version
  order by d.level, d.position;
$$;
