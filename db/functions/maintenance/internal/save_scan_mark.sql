-- Stores where a scan of a table found live rows, so that the next scans of this session begin there.
--
-- While a long transaction elsewhere prevents vacuum, dead rows accumulate before the first live row, and a scan from
-- the beginning reads all of them. When such a full scan (p_marks_before is null) took longer than p_fast, the next
-- scans begin at its marks. They miss rows before the marks that were not yet committed; the next full scan finds
-- these. It is due after twenty times as long as this one took, so full scans cost 5 % of the time, and while scans
-- are fast each is full. A session's first scan does not count, as its statements are planned then.
--
-- A mark is only a hint in a setting of the session: it does no harm when it is lost, or found by another user of a
-- pooled session. The time is the real one, whatever tests do to current_time.

create function tasker_core_v1.save_scan_mark(
  p_table regclass,
  p_marks_before jsonb,
  p_marks jsonb,
  p_began timestamptz,
  p_fast interval
) returns void
language plpgsql as $$
declare
  v_setting text := 'tasker_core.scan_' || p_table::oid;
  v_took interval := clock_timestamp() - p_began;
  v_scan text := '';
begin
  if p_marks_before is not null then
    v_scan := current_setting(v_setting)::jsonb || jsonb_build_object('marks', p_marks);
  elsif v_took <= p_fast then
    return;
  elsif current_setting(v_setting, true) is not null then
    v_scan := jsonb_build_object('marks', p_marks, 'whole_at', extract(epoch from clock_timestamp() + 20 * v_took));
  end if;

  perform set_config(v_setting, v_scan, false);
end
$$;
