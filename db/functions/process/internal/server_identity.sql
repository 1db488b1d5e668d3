-- Returns {system: the identifier that initdb drew, timeline: a new one begins with each promotion or restore}. A
-- worker that sees a change in the response of heartbeat registers again. The timeline is that of the current WAL
-- insert position, which is right immediately after a promotion. On servers that do not show these values (some
-- managed ones) both are null: workers notice no change, but held_claims still protects every claim.

create function tasker_core_v1.server_identity() returns json
language plpgsql stable as $$
begin
  return json_build_object(
    'system', (select system_identifier::text from pg_control_system()),
    'timeline', left(pg_walfile_name(pg_current_wal_insert_lsn()), 8));
exception
  when feature_not_supported or insufficient_privilege or object_not_in_prerequisite_state then
    return json_build_object('system', null, 'timeline', null);
end
$$;
