-- Records an operator's action on a task or on one of its steps, with the actor and the reason. Called by every action.
-- Errors: TC006 without reason or actor. If p_task is null, it only checks these.

create function tasker_core_v1.record_event(p_task bigint, p_position integer, p_action text, p_reason text, p_by text)
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
      format('%s: is blank: %s', v_missing,
        case v_missing
          when 'reason' then 'give the reason to record with the action'
          else 'name the person or program that acts'
        end),
      jsonb_build_object('field', v_missing, 'action', p_action, 'task', p_task));
  end if;

  insert into tasker_task_events (task_id, position, action, actor, reason, created_at)
  select p_task, p_position, p_action, p_by, p_reason, tasker_core_v1.current_time()
  where p_task is not null;
end
$$;
