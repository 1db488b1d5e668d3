-- Why can a step not be claimed? Opens a claim on it without payloads and takes it back: what can be read is decided by
-- what a claim reads. Returns null for a claim that can be opened, else the error as row_error describes it. Every other error
-- is raised.
-- Where no process is registered nothing can be said, and null is returned.
-- Called by insert_readable_claims and sweep.

create function tasker_core_v1.claim_error(p_task bigint, p_position integer) returns jsonb
language plpgsql as $$
declare
  v_process bigint := (select id from tasker_processes limit 1);
  v_code text;
  v_message text;
  v_error jsonb;
begin
  perform tasker_core_v1.insert_claims(
    v_process, array[p_task], array[p_position], array[tasker_core_v1.current_time()], 0);
  perform tasker_core_v1.raise_error('TC009', 'the claim is taken back', '{}');
  return null;
exception
  when sqlstate 'TC009' or sqlstate 'TC005' then
    return null;
  when others then
    get stacked diagnostics v_code = returned_sqlstate, v_message = message_text;
    v_error := tasker_core_v1.row_error(v_code, format('the database cannot read what a claim needs: %s', v_message));
    if v_error is null then
      raise;
    end if;
    return v_error;
end
$$;
