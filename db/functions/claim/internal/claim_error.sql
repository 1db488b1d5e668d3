-- Returns why a step cannot be claimed, as row_error describes it, or null when it can be. Inserts a claim without
-- payloads and rolls it back, so that the check reads exactly what a claim reads.
-- Raises errors that do not come from stored data, such as a time-out. Returns null when no process is registered.
-- Called by insert_readable_claims and sweep.

create function tasker_core_v1.claim_error(p_task bigint, p_position integer) returns jsonb
language plpgsql as $$
declare
  v_process bigint := (select id from tasker_processes limit 1);
  v_error jsonb;
begin
  perform tasker_core_v1.insert_claims(
    v_process, array[p_task], array[p_position], array[tasker_core_v1.current_time()], 0);
  perform tasker_core_v1.raise_error('TC009', 'the claim is rolled back', '{}');
  return null;
exception
  when sqlstate 'TC009' or sqlstate 'TC005' then
    return null;
  when others then
    v_error := tasker_core_v1.row_error(
      sqlstate, format('the database cannot read data needed for a claim: %s', sqlerrm));
    if v_error is null then
      raise;
    end if;
    return v_error;
end
$$;
