-- Returns claims whose jobs no process has started, without using attempts. Their jobs, should they still run, find no
-- claim (adopt_claim). Returns ready_queues, and set_aside: [{task_id, position, error}].
--
-- With p_sets_aside there is a single claim. When data of its step is damaged (row_error), the step is set aside.
-- Called by sweep, which has locked the claims.

create function tasker_core_v1.return_unstarted_claims(
  p_tokens bigint[],
  p_sets_aside boolean,
  out ready_queues text[],
  out set_aside jsonb
) language plpgsql as $$
declare
  v_error jsonb;
begin
  set_aside := '[]';
  ready_queues := array(
    select json_array_elements_text(
      tasker_core_v1.return_claims(p_tokens, '0', 'not_started', true)->'ready_queues'));
exception
  when others then
    v_error := tasker_core_v1.row_error(
      sqlstate, format('the database cannot read data needed to return the step: %s', sqlerrm));
    if not p_sets_aside or v_error is null then
      raise;
    end if;
    ready_queues := '{}';
    set_aside := tasker_core_v1.set_aside_claim(p_tokens[1], v_error, v_error);
end
$$;
