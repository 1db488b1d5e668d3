-- Notes what an operator did to a task, or to one of its steps: which verb, who, and why.
-- Called by every operator's verb, so that none goes without a name and a reason: TC006. What concerns no task is checked only.

create function tasker_core_v1.record_event(p_task bigint, p_position integer, p_verb text, p_reason text, p_by text)
returns void
language plpgsql as $$
declare
  v_missing text := case
    when coalesce(trim(p_reason), '') = '' then 'reason'
    when coalesce(trim(p_by), '') = '' then 'by'
  end;
begin
  if v_missing is not null then
    perform tasker_core_v1.raise_error('TC006',
      format('%s: is blank: tell %s', v_missing,
        case v_missing when 'reason' then 'why, for those who look at the task later' else 'who does it' end),
      jsonb_build_object('field', v_missing, 'verb', p_verb, 'task', p_task));
  end if;

  insert into tasker_task_events (task_id, position, verb, actor, reason, created_at)
  select p_task, p_position, p_verb, p_by, p_reason, tasker_core_v1.current_time()
  where p_task is not null;
end
$$;
