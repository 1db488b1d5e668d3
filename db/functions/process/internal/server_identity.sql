-- Which server is this, and which course of its history? {system: the identifier that initdb drew, timeline: which a promotion
-- or a restore begins anew}. A worker that sees another one than before registers anew (heartbeat tells it).
-- The timeline is that of the place where the next record goes, as it is right from the promotion on. A server that does not
-- show them (some managed ones) has nulls: workers then notice nothing, and the fences hold all the same.

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
